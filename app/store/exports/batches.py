"""Rows of an export in batches that are worth a step, and fit into memory however large some are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BATCH_BYTES = 1 << 21


def batches(lines: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """So many, or fewer that are large."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == most or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
