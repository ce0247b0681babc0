"""What a column of an export is called, and of which kind its values are."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Values come as the query API shows them: a moment as RFC 3339 text, JSON as lists and objects."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    MOMENT = "moment"
    JSON = "json"


class Column(NamedTuple):
    name: str
    kind: Kind
