"""Lines become deliveries in the store: in groups, a bad line named, and none that is there already twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from app.intake.groups import in_groups
from app.intake.ndjson import BadLine, read_line
from app.intake.writer import Record
from app.model import Delivery, Integration

MAX_GROUP = 500
MAX_GROUP_BYTES = 8 << 20

AlreadyThere = Callable[[Collection[UUID]], set[UUID]]


class Line(NamedTuple):
    file: str
    number: int
    text: bytes


class Import:
    """Counts what became of the lines: by verdict, `known` for those that were there before, `bad` for the rest."""

    def __init__(
        self,
        record: Record,
        there: AlreadyThere,
        integrations: Mapping[str, Integration],
        complain: Callable[[str], None],
    ) -> None:
        self._record = record
        self._there = there
        self._integrations = integrations
        self._complain = complain
        self.counts: Counter[str] = Counter()

    def run(self, lines: Iterable[Line]) -> None:
        """Raises `StoreUnavailable`; what went in before stays, and adds nothing when it is imported again."""
        for group in in_groups(self._deliveries(lines), MAX_GROUP, MAX_GROUP_BYTES):
            self._store(group)

    def _deliveries(self, lines: Iterable[Line]) -> Iterator[Delivery]:
        now = datetime.now(UTC)
        for file, number, text in lines:
            if not text.strip():
                continue
            try:
                yield read_line(text, number, self._integrations, now)
            except BadLine as bad:
                self.counts["bad"] += 1
                self._complain(f"{file}:{number}: {bad}")

    def _store(self, group: list[Delivery]) -> None:
        there = self._there([delivery.id for delivery in group])
        fresh = {delivery.id: delivery for delivery in reversed(group) if delivery.id not in there}
        self.counts["known"] += len(group) - len(fresh)
        if fresh:
            receipts = self._record(list(reversed(fresh.values())))
            self.counts.update(receipt.verdict.value for receipt in receipts)
