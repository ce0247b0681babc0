"""What goes into the audit log, and when: before an answer that reveals leaves, and before a change is made."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any
from uuid import UUID

from flask import Response, g, request

from app.errors import StoreError, StoreUnavailable
from app.identity import new_id
from app.masking import mask_parameters
from app.model import AuditEntry, Token
from app.values import storable
from app.web.origin import peer
from app.web.parts import now, parts


class Logged(Enum):
    """Which answers of a view are logged."""

    REVEALED = auto()  # all to a token that sees phone numbers; the rule, so that no new view is forgotten
    ALWAYS = auto()  # masked ones too
    CHANGE = auto()  # before the view changes anything
    NEVER = auto()  # it shows neither phone numbers nor bodies to anybody


def logged(when: Logged, token: Token, view: Callable[[], Response], path: dict[str, Any]) -> Response:
    """The view's answer, logged before it leaves. Raises `StoreUnavailable` where the entry cannot be written.

    `path` has the parts of the URL's path that the view names.
    """
    if when is Logged.CHANGE:
        write(token, path, None)
        return view()
    answer = view()
    if when is Logged.ALWAYS or (when is Logged.REVEALED and g.reveal):
        try:
            write(token, path, answer.status_code)
        except BaseException:
            answer.close()  # a live stream, or the process of an export, that nobody will read
            raise
    return answer


def write(token: Token, path: dict[str, Any], status: int | None) -> None:
    """Log the request under way. Raises `StoreUnavailable`."""
    settings, at = parts().settings, now()
    entry = AuditEntry(
        id=new_id(at),
        at=at,
        who=token.name,
        what=request.endpoint or "",
        asked=mask_parameters([*request.args.items(multi=True), *g.get("told", ())]),
        record_id=next(filter(None, map(_uuid, path.values())), None),
        remote_addr=storable(peer(request.environ, settings.trusted_proxies)),
        status=status,
    )
    try:
        parts().audit(entry)
    except StoreError as error:
        first = "what reveals or changes is logged first, which cannot be done now"
        raise StoreUnavailable(f"{first}: {error}", f"{first}: {error.detail}") from error


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
