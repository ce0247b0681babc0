"""Numbers as a contact list of Plum's: a CSV whose first header is `destination`.

Not guarded against formulas: Plum would dial the guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from app.exports.csv import lines

DESTINATION = "destination"


def blocks(batches: Iterable[Sequence[str]]) -> Iterator[bytes]:
    yield lines([[DESTINATION]])
    for numbers in batches:
        yield lines([numbers])
