"""Reads the batches of a fill one ahead: the store reads the next batch while DuckDB writes the current one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from uuid import UUID

from app.store.csv_rows import CsvRow

# The end time and the id of the outcome before a batch; None for the first batch.
Edge = tuple[datetime, UUID] | None
# Its rows, and whether they are the last ones.
Batch = tuple[list[CsvRow], bool]


class ReadAhead:
    """One caller at a time takes batch after batch."""

    def __init__(self, read: Callable[[Edge], Batch]) -> None:
        self._read = read
        self._next: tuple[Edge, Future[Batch]] | None = None

    def batch(self, edge: Edge) -> Batch:
        """Return the batch behind `edge`, and start to read the one behind it. Raises the errors of `read`."""
        expected, future = self._next or (edge, self._start(edge))
        self._next = None
        if expected != edge:  # the caller begins anew, or could not write the batch before
            future = self._start(edge)
        rows, is_last = future.result()
        if not is_last:
            behind = rows[-1].ended_at, rows[-1].id
            self._next = behind, self._start(behind)
        return rows, is_last

    def _start(self, edge: Edge) -> Future[Batch]:
        future: Future[Batch] = Future()
        threading.Thread(target=self._run, args=(edge, future), daemon=True).start()
        return future

    def _run(self, edge: Edge, future: Future[Batch]) -> None:
        try:
            future.set_result(self._read(edge))
        except BaseException as error:  # noqa: BLE001  raised again by `result`
            future.set_exception(error)
