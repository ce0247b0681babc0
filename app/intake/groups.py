"""Groups of deliveries, small enough that others do not wait long for one group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from app.model import Delivery, Reading

PORTION_BYTES = 32 << 10  # bytes of bodies that are interpreted at a time; ordinary groups are smaller
MAX_PORTION = 256
MAX_PART_BYTES = 8 << 20  # of bodies that are stored at a time; groups are smaller unless their bodies inflate


def in_groups(
    deliveries: Iterable[Delivery],
    most: int,
    most_bytes: int,
    size_of: Callable[[Delivery], int] = attrgetter("size"),
) -> Iterator[list[Delivery]]:
    """Yield the deliveries in their order; a group ends with the delivery that brings it to `most` deliveries or
    above `most_bytes`."""
    group: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        group.append(delivery)
        size += size_of(delivery)
        if len(group) == most or size > most_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def in_portions(deliveries: Iterable[Delivery]) -> Iterator[list[Delivery]]:
    """Yield the deliveries in portions that are interpreted at a time; a compressed one, which may inflate to
    megabytes, ends its portion."""
    return in_groups(deliveries, MAX_PORTION, PORTION_BYTES, _weight)


def in_parts(portions: Iterable[list[Reading]]) -> Iterator[list[Reading]]:
    """Yield the readings in parts that are stored at a time, so that inflated bodies neither fill the memory nor make
    a commit that takes too long."""
    part: list[Reading] = []
    size = 0
    for portion in portions:
        part += portion
        size += sum(max(reading.body_bytes, reading.delivery.size) for reading in portion)
        if size > MAX_PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _weight(delivery: Delivery) -> int:
    return PORTION_BYTES + 1 if delivery.is_encoded else delivery.size
