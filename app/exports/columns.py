"""The columns of exports: their names and types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The type of a column's values; the column holds them as texts."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"  # true or false
    MOMENT = "moment"  # RFC 3339 in UTC
    JSON = "json"


class Column(NamedTuple):
    name: str
    kind: Kind


# A record's values as the query API shows them, in the order of the columns, each a text or null.
Texts = Sequence[str | None]
# Returns what a token without `reveal` sees of a field's text.
Mask = Callable[[str | None], str | None]
