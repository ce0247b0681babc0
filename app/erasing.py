"""Erases one phone number everywhere, and returns a receipt of what was removed and what was not."""

from __future__ import annotations

import base64
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from app.config import Settings
from app.errors import NotFound, Unreadable
from app.intake.refused import Refused
from app.intake.spool import Spool
from app.model import Delivery
from app.products.content_codings import NotInflated, codings_of, inflated
from app.store import do_not_call, erasure
from app.store.database import Database, empty_wal
from app.store.query.question import Records
from app.values import BadValue, phone, phone_parts, region_code

MAX_WRAPS = 3  # nested percent-encodings, as many as the parser of bodies undoes
MAX_INFLATED = 16  # times the largest body, as for the parser

_GZIP_OR_ZLIB = 47  # https://docs.python.org/3/library/zlib.html#zlib.decompress
_SEPARATORS = r"[\s().\-/\u2010-\u2015\u2212\u00b7_]{0,5}"  # as people write them within numbers
_LETTER = re.compile(r"[^\W\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed and held; `left` says what may still contain the number."""

    outcomes: int
    deliveries: int
    expected_calls: int
    refused: int  # refused posts
    held: int
    left: list[str]


def erase(settings: Settings, database: Database, number: str, *, dry_run: bool = False) -> Receipt:
    """Erase the number. If this is interrupted, erase again.

    A dry run returns what would be removed; of deliveries it counts only those without an outcome. Raises `NotFound`
    if the number is not valid, and `StoreUnavailable`.
    """
    e164 = _e164(number, settings.default_region)
    has_number = finder(e164, settings.default_region)
    found = erasure.find(database, has_number, _texts_of(settings))
    refused, is_meant = Refused(settings.spool_dir), partial(_is_in_refused, has_number)
    if dry_run:
        counts = len(found.outcomes), len(found.deliveries), len(found.expected_calls)
        return Receipt(
            *counts, sum(map(is_meant, refused.entries())), len(found.held), _left(settings, database, e164)
        )
    removed = erasure.remove(database, found)
    receipt = Receipt(
        outcomes=removed[Records.OUTCOMES],
        deliveries=removed[Records.DELIVERIES],
        expected_calls=removed[Records.EXPECTED_CALLS],
        refused=refused.remove(is_meant),
        held=len(found.held),
        left=[],
    )
    _forget_copy(settings.analytics_path)
    return replace(receipt, left=_left_in_log(database) + _left(settings, database, e164))


def _e164(number: str, region: str) -> str:
    try:
        found = phone(number, region)
    except BadValue:
        found = None
    if found is None:
        raise NotFound(f"{number} is no full phone number; write it like +16175551234")
    return found


def finder(e164: str, region: str) -> Callable[[str], bool]:
    """Return the predicate that finds the number in a text in every usual form.

    These are: with its country code, or, for a number of the region, as dialled there; with separators between the
    digits, and without another digit next to it.
    """
    code, national = phone_parts(e164)
    digits = _SEPARATORS.join(national)
    international = rf"(?:(?:\+|00|011){_SEPARATORS})?{_SEPARATORS.join(code)}{_SEPARATORS}(?:0{_SEPARATORS})?"
    is_of_region = code == region_code(region)
    before = rf"(?:{international}|0?{_SEPARATORS})" if is_of_region else international
    pattern = re.compile(rf"(?<![0-9]){before}{digits}(?![0-9])")

    def has_number(text: str) -> bool:
        return pattern.search(_LETTER.sub(_in_ascii, text)) is not None

    return has_number


def _in_ascii(character: re.Match[str]) -> str:
    """Return the ASCII digit for a digit of another script."""
    return str(unicodedata.decimal(character[0], character[0]))


def _texts_of(settings: Settings) -> Callable[[Delivery], Iterator[str]]:
    most = MAX_INFLATED * settings.max_body_bytes

    def texts(delivery: Delivery) -> Iterator[str]:
        yield from (text for header in delivery.headers for text in _unescaped("\n".join(header)))
        for named in (delivery.query, delivery.reference, delivery.batch, delivery.content_type):
            yield from _unescaped(named or "")
        for body in _bodies(delivery, most):
            yield from _unescaped(_decoded(body))

    return texts


def _is_in_refused(has_number: Callable[[str], bool], entry: dict[str, Any]) -> bool:
    texts = [*map(str, entry.values()), _decoded(base64.b64decode(entry["body_base64"]))]
    return any(has_number(one) for text in texts for one in _unescaped(text))


def _bodies(delivery: Delivery, most: int) -> Iterator[bytes]:
    """Yield the body as sent, and inflated as far as that works, whatever its header says."""
    yield delivery.body
    with suppress(NotInflated, Unreadable):  # a body that is too large is inflated in part below
        if codings := codings_of(delivery.headers):
            yield inflated(delivery.body, codings, most)
    with suppress(zlib.error):
        yield zlib.decompressobj(_GZIP_OR_ZLIB).decompress(delivery.body, most)


def _decoded(body: bytes) -> str:
    """Decode without NULs, which UTF-16 and UTF-32 have between digits."""
    plain = body.replace(b"\0", b"")
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def _unescaped(text: str) -> Iterator[str]:
    """Yield the text and its percent-decoded forms."""
    for _ in range(MAX_WRAPS + 1):
        yield text
        decoded = unquote(text)
        if decoded == text:
            return
        text = decoded


def _forget_copy(path: Path) -> None:
    """Delete the analytical copy, which is rebuilt from the store: its file may keep blocks of deleted rows."""
    for file in (path, path.with_name(f"{path.name}.wal")):
        file.unlink(missing_ok=True)


def _left_in_log(database: Database) -> list[str]:
    """Empty SQLite's WAL, which contains deleted rows; return a remark if a reader prevents that."""
    return [] if empty_wal(database) else ["SQLite's log of changes, since somebody reads: erase again"]


def _left(settings: Settings, database: Database, e164: str) -> list[str]:
    left = []
    if e164 in do_not_call.numbers(database):
        left.append("it stays in the do-not-call list, so that nobody dials it: plum do-not-call remove")
    backlog = Spool(settings.spool_dir).backlog()
    if backlog.deliveries or backlog.aside:
        left.append("deliveries wait in the spool, which was not searched: erase again once it is drained")
    if not database.is_sqlite:
        left.append("PostgreSQL overwrites deleted rows after VACUUM; its WAL archive and replicas follow")
    left.append("what came, or changed, while this ran: erase again where the number is still called")
    left.append("backups, exports that were taken, and analytical copies of other hosts until they are made again")
    return left
