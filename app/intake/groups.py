"""Groups of deliveries, small enough that others do not wait long for one group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.model import Delivery


def in_groups(deliveries: Iterable[Delivery], most: int, most_bytes: int) -> Iterator[list[Delivery]]:
    """Yield the deliveries in their order; a group ends with the delivery that brings it to `most` deliveries or
    above `most_bytes`."""
    group: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        group.append(delivery)
        size += delivery.size
        if len(group) == most or size > most_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group
