"""One roll-up, of the outcomes of a quarter or of the roll-ups of its parts, and the row that keeps it."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select

from app.model import AnsweredBy, Disposition
from app.store.asking.quarters import Span, begin
from app.store.rollups import multisets, tallies
from app.store.rollups.covering import WORDS
from app.store.rollups.tallies import Groups, Tally
from app.store.schema import outcomes, rollup_kinds, rollups

KIND = tuple(name for name in WORDS if name != "batch")

Kind = tuple[str | None, ...]


class Made(NamedTuple):
    """The roll-up of a span, and of which groups it is."""

    quarter: int
    groups: Groups


class Kinds:
    """The numbers of the combinations of words, those that are new among them."""

    def __init__(self, connection: Connection) -> None:
        self.words: dict[int, Kind] = {
            row[0]: tuple(row[1:]) for row in connection.execute(select(rollup_kinds)).all()
        }
        self._numbers = {kind: number for number, kind in self.words.items()}
        self._known = len(self.words)

    def number(self, kind: Kind) -> int:
        if kind not in self._numbers:
            self._numbers[kind] = len(self._numbers) + 1
            self.words[self._numbers[kind]] = kind
        return self._numbers[kind]

    def store(self, connection: Connection) -> None:
        names = rollup_kinds.c.keys()
        fresh = [(number, *kind) for number, kind in self.words.items() if number > self._known]
        if fresh:
            connection.execute(insert(rollup_kinds), [dict(zip(names, row, strict=True)) for row in fresh])


def of_outcomes(connection: Connection, kinds: Kinds, quarter: int) -> Groups:
    key = [*(outcomes.c[name] for name in KIND), outcomes.c.batch, outcomes.c.duration_seconds]
    attempts = outcomes.c.attempts
    counted = select(*key, func.count(), func.sum(attempts), func.count(attempts)).where(
        outcomes.c.ended_at >= begin(quarter), outcomes.c.ended_at < begin(quarter + 1)
    )
    made = tallies.groups()
    for *words, batch, duration, count, attempts, attempted in connection.execute(counted.group_by(*key)).all():
        tally = made[batch][kinds.number(tuple(words))]
        tally.count += count
        tally.attempts += attempts or 0
        tally.attempted += attempted
        if duration is not None:
            tally.durations.count(duration, count)
    return made


def of_parts(connection: Connection, span: Span, parts: Span, quarter: int) -> Groups:
    finer = select(rollups.c.batches, rollups.c.batch_durations).where(
        rollups.c.span == parts, rollups.c.quarter >= quarter, rollups.c.quarter < quarter + span
    )
    made = tallies.groups()
    for heads, packed in connection.execute(finer).all():
        durations, at = tallies.unpack_durations(packed), 0
        for batch, cells in tallies.unpack(heads):
            for kind, total, attempts, attempted, length in tallies.unpack_cells(cells):
                tally = made[batch][kind]
                tally.count += total
                tally.attempts += attempts
                tally.attempted += attempted
                tally.durations.add(durations[at : at + length])
                at += length
    return made


def row(kinds: Kinds, span: Span, made: Made) -> dict[str, Any]:
    whichever, total = tallies.groups(), Tally()
    for of_batch in made.groups.values():
        for number, tally in of_batch.items():
            whichever[None][number].merge(tally)
    for number, tally in whichever[None].items():
        words = dict(zip(KIND, kinds.words[number], strict=True))
        total.merge(tally)
        total.answered += tally.count * (words["disposition"] == Disposition.ANSWERED)
        total.human += tally.count * (words["answered_by"] == AnsweredBy.HUMAN)
        total.known += tally.count * (words["answered_by"] is not None)
    batches, batch_durations = tallies.pack(made.groups)
    packed, kind_durations = tallies.pack(whichever)
    sums = {name: getattr(total, name) for name in tallies.SUMS}
    blobs = {
        "batches": batches,
        "batch_durations": batch_durations,
        "kinds": packed,
        "kind_durations": kind_durations,
    }
    durations = multisets.pack(total.durations.counts())
    return {"span": int(span), "quarter": made.quarter, "durations": durations, **sums, **blobs}
