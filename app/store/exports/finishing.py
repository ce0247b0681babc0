"""What lines of CSV that the database makes still need, column by column.

On SQLite these are quotes, moments and masks. PostgreSQL leaves only the masks of what may hold phones among other
things, and says which lines have any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Column

from app.exports.cells import cells
from app.exports.columns import Kind, Mask
from app.store.asking.questions import is_json
from app.store.exports.cells import MARK, MASKED, NULL, is_marked, is_moment

# Of one place in many lines: what the engine gives, made what the file has there.
Finish = Callable[[list[bytes]], list[bytes]]

_FRACTION = re.compile(rb"\.\d{6}")
# A quoted cell may be as long as a body: what never goes back keeps no record of where to.
_CELL = re.compile(rb'((?:"[^"]*+")++|[^,]*),')


class Pieces(NamedTuple):
    """Of SQLite: how the pieces between marks, so many a line, are finished by their place in it."""

    width: int
    finishes: Mapping[int, Finish]


def pieces(columns: Sequence[Column[Any]], masks: Mapping[str, Mask], raw: bool) -> Pieces:
    """The odd ones are cells; a line's end and the start of the next one are one piece."""
    finishes: dict[int, Finish] = {}
    width = 2 * sum(is_marked(column) for column in columns)
    place = 0
    for column in columns:
        if is_marked(column):
            finishes[place + 1] = _masking(column, masks, raw) if column.name in masks else _quoted
            place += 2
        elif is_moment(column):
            finishes[place % width if width else 0] = _in_rfc_3339
    return Pieces(width or 1, finishes)


def unmarked(lines: bytes, pieces: Pieces) -> bytes:
    """Of SQLite: finished lines."""
    found = lines.split(MARK)
    for place, finish in pieces.finishes.items():
        found[place :: pieces.width] = finish(found[place :: pieces.width])
    return b"".join(found)


def finishes(columns: Sequence[Column[Any]], masks: Mapping[str, Mask], raw: bool) -> dict[int, Finish]:
    """Of PostgreSQL: for the columns, by their places, that it cannot mask by itself."""
    return {
        at: _masking(column, masks, raw)
        for at, column in enumerate(columns)
        if column.name in masks and column.name not in MASKED
    }


def unflagged(lines: Sequence[bytes], finishes: Mapping[int, Finish]) -> list[bytes]:
    """Of PostgreSQL: finished lines, without the first cell, which is empty where there is nothing to do."""
    flagged = {at: _CELL.findall(line + b",")[1:] for at, line in enumerate(lines) if not line.startswith(b",")}
    for place, finish in finishes.items():
        found = finish([_unquoted(row[place]) for row in flagged.values()])
        for row, cell in zip(flagged.values(), found, strict=True):
            row[place] = cell
    return [b",".join(flagged[at]) if at in flagged else line[1:] for at, line in enumerate(lines)]


def _masking(column: Column[Any], masks: Mapping[str, Mask], raw: bool) -> Finish:
    kind = Kind.JSON if is_json(column) else Kind.TEXT
    return partial(_masked, mask=masks[column.name], kind=kind, raw=raw)


def _masked(found: list[bytes], mask: Mask, kind: Kind, raw: bool) -> list[bytes]:
    """The guard goes by what is shown."""
    texts = [None if text == NULL else text.decode() for text in found]
    return [cell.encode() for cell in cells([mask(text) for text in texts], kind, raw)]


def _quoted(found: list[bytes]) -> list[bytes]:
    """In quotes where RFC 4180 needs them, which few texts do."""
    if not _needs_quotes(b"".join(found)):
        return found
    return [b'"' + text.replace(b'"', b'""') + b'"' if _needs_quotes(text) else text for text in found]


def _needs_quotes(text: bytes) -> bool:
    return b'"' in text or b"," in text or b"\r" in text or b"\n" in text


def _in_rfc_3339(found: list[bytes]) -> list[bytes]:
    """Moments, beside numbers and words, which have neither spaces nor dots; without a fraction that is zero."""
    joined = MARK.join(found).replace(b" ", b"T").replace(b".000000", b"Z")
    if b"." in joined:
        joined = _FRACTION.sub(rb"\g<0>Z", joined)
    return joined.split(MARK)


def _unquoted(cell: bytes) -> bytes:
    return cell[1:-1].replace(b'""', b'"') if cell.startswith(b'"') else cell
