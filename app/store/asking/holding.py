"""Conditions on words and texts, in Python: what `conditions.py` says in SQL of the same fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.store.asking.questions import Condition, Operator

_COMPARES: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: lambda value, other: value == other,
    Operator.GT: lambda value, other: value > other,
    Operator.GTE: lambda value, other: value >= other,
    Operator.LT: lambda value, other: value < other,
    Operator.LTE: lambda value, other: value <= other,
    Operator.PREFIX: lambda value, other: value.startswith(other),
    Operator.CONTAINS: lambda value, other: other in value,
}


def holds(condition: Condition, value: str | None) -> bool:
    match condition.operator:
        case Operator.NOT:
            return value not in condition.values
        case Operator.NULL:
            return (value is None) in condition.values
    compares = _COMPARES[condition.operator]
    return value is not None and any(compares(value, other) for other in condition.values)
