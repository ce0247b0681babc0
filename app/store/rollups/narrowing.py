"""Where in time the rows of a page lie, so that a page of what is rare needs no walk over all that is not asked for.

Roll-ups tell how many rows of each day fulfil a question by words; a day with few among many is looked at by its
hours and quarters. What roll-ups do not hold is one of the places to look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from app.store.asking.quarters import Span, begin
from app.store.asking.questions import Question, Records
from app.store.rollups.adding import Groups, Wanted
from app.store.rollups.covering import PARTS, WORDS, Stretch, cover
from app.store.rollups.rolled import any_kind, source
from app.store.rollups.tallies import Tally
from app.store.schema import rollups

_AT_ONCE = (4, 64)  # spans whose counts are read together, at first and from then on
_FEW_ROWS = 500  # may be walked over
_DENSE = 300  # where one row of so many is asked for, a walk finds it sooner


class _Place(NamedTuple):
    """Some time from the quarter on; without a span it is what no roll-up holds."""

    stretch: Stretch
    quarter: int = 0
    span: Span | None = None


def is_narrowable(question: Question) -> bool:
    """Whether it asks for outcomes of some words in the order in which they ended."""
    in_order = question.records is Records.OUTCOMES and question.whole_order[0].field == "ended_at"
    return in_order and any(one.field in WORDS for one in question.conditions)


def places(connection: Connection, question: Question, *, down: bool) -> Iterator[Stretch] | None:
    """The stretches of time that hold the rows, in the order of the walk; None where roll-ups cannot tell.

    The connection reads at one moment.
    """
    found = cover(connection, question, lambda first, last: True)
    if found is None:
        return None
    kept = [_place(quarter, span) for span, quarters in found.spans.items() for quarter in quarters]
    walk = sorted([*kept, *map(_Place, found.stretches)], reverse=down)
    return _Walk(connection, question, down).in_turn(walk)


def _place(quarter: int, span: Span) -> _Place:
    return _Place((begin(quarter), begin(quarter + span)), quarter, span)


class _Walk:
    """Through time in one direction."""

    def __init__(self, connection: Connection, question: Question, down: bool) -> None:
        self._connection = connection
        self._columns, self._add = source(connection, question, Wanted())
        self._step = -1 if down else 1
        self._is_possible = any_kind(connection, question)

    def in_turn(self, walk: Sequence[_Place]) -> Iterator[Stretch]:
        first, then = _AT_ONCE
        yield from _joined(self._holding(walk[:first]))
        for at in range(first, len(walk), then):
            yield from _joined(self._holding(walk[at : at + then]))

    def _holding(self, walk: Sequence[_Place]) -> Iterator[Stretch]:
        """Those of the places that hold rows, or those of their parts."""
        counts = self._counts(walk)
        for place in walk:
            matching, rows = counts.get((place.span, place.quarter), (0, 0))
            if place.span is None or (matching and _is_quick(place.span, matching, rows)):
                yield place.stretch
            elif matching:
                finer = PARTS[place.span]
                parts = [_place(at, finer) for at in range(place.quarter, place.quarter + place.span, finer)]
                yield from self._holding(parts[:: self._step])

    def _counts(self, walk: Sequence[_Place]) -> dict[tuple[Span | None, int], tuple[int, int]]:
        """How many rows of each span are asked for, and how many it has."""
        counts: dict[tuple[Span | None, int], tuple[int, int]] = {}
        if not self._is_possible:
            return counts
        for span in {place.span for place in walk if place.span}:
            quarters = [place.quarter for place in walk if place.span is span]
            columns = (rollups.c[name] for name in ("quarter", "count", *self._columns))
            kept = select(*columns).where(rollups.c.span == span, rollups.c.quarter.in_(quarters))
            found = self._connection.execute(kept).all()
            groups: Groups = defaultdict(Tally)
            self._add([(quarter, *packed) for quarter, _, *packed in found], Wanted(clock=_EachSpan()), groups)
            counts |= {(span, quarter): (groups[(quarter, 0), ()].count, rows) for quarter, rows, *_ in found}
        return counts


class _EachSpan:
    """A bucket for each span."""

    def number(self, quarter: int) -> tuple[int, int]:
        return quarter, 0


def _is_quick(span: Span, matching: int, rows: int) -> bool:
    return span is Span.QUARTER or rows <= _FEW_ROWS or matching * _DENSE >= rows


def _joined(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Those that touch as one, in whichever direction they come."""
    joined: Stretch | None = None
    for since, until in stretches:
        if joined and (joined[1] == since or until == joined[0]):
            joined = min(joined[0], since), max(joined[1], until)
            continue
        if joined:
            yield joined
        joined = since, until
    if joined:
        yield joined
