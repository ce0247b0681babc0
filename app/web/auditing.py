"""Writes the audit log: before a response that reveals is sent, and before a change is made."""

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
    """Which requests to a view are logged."""

    REVEALED = auto()  # all from tokens that see phone numbers; the default, so that no new view is forgotten
    ALWAYS = auto()  # masked responses too
    CHANGE = auto()  # before the view changes anything
    NEVER = auto()  # the view never shows phone numbers or bodies


def logged(when: Logged, token: Token, view: Callable[[], Response], path: dict[str, Any]) -> Response:
    """Return the view's response, logged before it is sent. Raises `StoreUnavailable` if the log cannot be written.

    `path` holds the variables of the URL's path.
    """
    if when is Logged.CHANGE:
        write(token, path, None)
        return view()
    answer = view()
    if when is Logged.ALWAYS or (when is Logged.REVEALED and g.reveal):
        try:
            write(token, path, answer.status_code)
        except BaseException:
            answer.close()  # ends a live stream, or the process of an export, that nobody will read
            raise
    return answer


def write(token: Token, path: dict[str, Any], status: int | None) -> None:
    """Log the current request. Raises `StoreUnavailable`."""
    settings, at = parts().settings, now()
    entry = AuditEntry(
        id=new_id(at),
        at=at,
        who=token.name,
        what=request.endpoint or "",
        asked=mask_parameters([*request.args.items(multi=True), *g.get("logged_fields", ())]),
        record_id=next(filter(None, map(_uuid, path.values())), None),
        remote_addr=storable(peer(request.environ, settings.trusted_proxies)),
        status=status,
    )
    try:
        parts().audit(entry)
    except StoreError as error:
        message = "the audit log cannot be written, so nothing is revealed or changed"
        raise StoreUnavailable(f"{message}: {error}", f"{message}: {error.detail}") from error


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
