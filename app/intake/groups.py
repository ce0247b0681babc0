"""Deliveries in groups: so many or so large at most that nobody else waits long for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.model import Delivery


def in_groups(deliveries: Iterable[Delivery], most: int, most_bytes: int) -> Iterator[list[Delivery]]:
    """In their order; a group ends with the delivery that makes it so many, or larger than so many bytes."""
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
