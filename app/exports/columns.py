"""What a column of an export is called, and of which kind its values are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Of which kind the values are whose texts a column holds."""

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
# What is shown of a field's text to who may not see phones.
Mask = Callable[[str | None], str | None]
