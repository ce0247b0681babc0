"""Rows of an export in batches that are worth a step, and fit into memory however large some are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

BATCH_BYTES = 1 << 21

Row = TypeVar("Row")


def batches(rows: Iterable[Row], most: int, size: Callable[[Row], int]) -> Iterator[list[Row]]:
    """So many, or fewer that are large."""
    batch: list[Row] = []
    held = 0
    for row in rows:
        batch.append(row)
        held += size(row)
        if len(batch) == most or held > BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
