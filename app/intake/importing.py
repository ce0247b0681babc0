"""Stores lines as deliveries, in groups; reports bad lines, and skips deliveries that the store already has."""

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
    """An import. It counts lines by verdict, as `known` if the store already had the delivery, or as `bad`."""

    def __init__(
        self,
        record: Record,
        there: AlreadyThere,
        integrations: Mapping[str, Integration],
        complain: Callable[[str], None],
    ) -> None:
        self._record = record
        self._stored_ids = there
        self._integrations = integrations
        self._complain = complain
        self.counts: Counter[str] = Counter()

    def run(self, lines: Iterable[Line]) -> None:
        """Import the lines. Raises `StoreUnavailable`; groups stored before that stay, and count as known in the next
        import."""
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
        stored = self._stored_ids([delivery.id for delivery in group])
        new_deliveries = {delivery.id: delivery for delivery in reversed(group) if delivery.id not in stored}
        self.counts["known"] += len(group) - len(new_deliveries)
        if new_deliveries:
            receipts = self._record(list(reversed(new_deliveries.values())))
            self.counts.update(receipt.verdict.value for receipt in receipts)
