"""Erases one phone number everywhere it stands, and says in a receipt what went and what could not."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from app.config import Settings
from app.errors import NotFound
from app.intake.refused import Refused
from app.intake.spool import Spool
from app.model import Delivery
from app.products.codings import NotInflated, codings_of, inflated
from app.store import do_not_call, erasure
from app.store.database import Database, truncate_wal
from app.store.query.question import Records
from app.values import DIGIT_RUN, Odd, national_digits, phone

MAX_WRAPS = 3  # of percent-encoding, as deep as bodies are read
MAX_INFLATED = 16  # times the largest body, likewise


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed, what is held, and in words what still holds the number, or may."""

    outcomes: int
    deliveries: int
    expected_calls: int
    refused: int  # posts that were refused, and kept for a while
    held: int
    left: list[str]


def erase(settings: Settings, database: Database, number: str, *, dry_run: bool = False) -> Receipt:
    """A dry run says what would go, of deliveries only those without an outcome. Raises `NotFound` for what is no
    number, and `StoreUnavailable`."""
    e164 = _e164(number, settings.default_region)
    has_number = _finder(e164)
    found = erasure.find(database, has_number, _texts_of(settings))
    if dry_run:
        counts = len(found.outcomes), len(found.deliveries), len(found.expected_calls)
        return Receipt(*counts, 0, len(found.held), _left(settings, database, e164))
    removed = erasure.remove(database, found)
    refused = Refused(settings.spool_dir).remove(lambda entry: any(map(has_number, _texts_of_refused(entry))))
    if removed.total():
        truncate_wal(database, above=0)
        _forget_copy(settings.analytics_path)
    return Receipt(
        outcomes=removed[Records.OUTCOMES],
        deliveries=removed[Records.DELIVERIES],
        expected_calls=removed[Records.EXPECTED_CALLS],
        refused=refused,
        held=len(found.held),
        left=_left(settings, database, e164),
    )


def _e164(number: str, region: str) -> str:
    try:
        found = phone(number, region)
    except Odd:
        found = None
    if found is None:
        raise NotFound(f"{number} is no full phone number; write it like +16175551234")
    return found


def _finder(e164: str) -> Callable[[str], bool]:
    """Whether the number stands in a text, however it is written."""
    wanted = national_digits(e164)

    def has_number(text: str) -> bool:
        return any(wanted in _digits(run[0]) for run in DIGIT_RUN.finditer(text))

    return has_number


def _digits(run: str) -> str:
    return "".join(str(unicodedata.decimal(character)) for character in run if character.isdecimal())


def _texts_of(settings: Settings) -> Callable[[Delivery], Iterator[str]]:
    most = MAX_INFLATED * settings.max_body_bytes

    def texts(delivery: Delivery) -> Iterator[str]:
        yield from (text for header in delivery.headers for text in _unescaped("\n".join(header)))
        for named in (delivery.query, delivery.reference, delivery.batch, delivery.content_type):
            yield from _unescaped(named or "")
        yield from _unescaped(_body(delivery, most).decode("latin-1"))

    return texts


def _texts_of_refused(entry: dict[str, Any]) -> Iterator[str]:
    for value in (*entry.values(), base64.b64decode(entry["body_base64"]).decode("latin-1")):
        yield from _unescaped(str(value))


def _body(delivery: Delivery, most: int) -> bytes:
    try:
        return inflated(delivery.body, codings_of(delivery.headers), most)
    except NotInflated:
        return delivery.body


def _unescaped(text: str) -> Iterator[str]:
    """The text, and what it is by percent-decoding."""
    for _ in range(MAX_WRAPS + 1):
        yield text
        decoded = unquote(text)
        if decoded == text:
            return
        text = decoded


def _forget_copy(path: Path) -> None:
    """It is made again from the store: blocks of its file may hold what was deleted for long."""
    for file in (path, path.with_name(f"{path.name}.wal")):
        file.unlink(missing_ok=True)


def _left(settings: Settings, database: Database, e164: str) -> list[str]:
    left = []
    if e164 in do_not_call.numbers(database):
        left.append("it stays in the do-not-call list, so that nobody dials it: plum do-not-call remove")
    backlog = Spool(settings.spool_dir).backlog()
    if backlog.deliveries or backlog.aside:
        left.append("deliveries wait in the spool, which was not searched: erase again once it is drained")
    if not database.is_sqlite:
        left.append("PostgreSQL overwrites deleted rows after VACUUM; its WAL archive and replicas follow")
    left.append("backups, exports that were taken, and analytical copies of other hosts until they are made again")
    return left
