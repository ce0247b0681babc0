"""The parameters of a question, made from the record's schema: each field with each operator that fits its type.

One schema parses the query string, reports its errors and documents the parameters. Its input is a mapping from each
parameter's name to the texts of that parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import Any

from marshmallow import Schema, ValidationError, fields

from app.store.query.question import Condition, Operator, Order
from app.web.fields import Flag, Nested, Text, Word, one_of

MAX_VALUES = 10_000  # in one question; SQLite takes 32,766 parameters, PostgreSQL 65,535
MAX_WHOLE = 500  # each is a comparison of its own; SQLite takes at most a thousand

_WHOLE = (Operator.PREFIX, Operator.CONTAINS)
MEANINGS = {
    Operator.EQUAL: "is any of these",
    Operator.NOT: "is none of these, or null",
    Operator.GT: "is greater or later",
    Operator.GTE: "is greater, later or the same",
    Operator.LT: "is less or earlier",
    Operator.LTE: "is less, earlier or the same",
    Operator.PREFIX: "begins with this",
    Operator.CONTAINS: "contains this",
    Operator.NULL: "is null, or an empty list or object (true), or not (false)",
}


class Parameter(fields.Field[Any]):
    """Parses the texts of one parameter; `inner` parses and documents a single text."""

    def __init__(self, inner: fields.Field[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def each(self, texts: list[str], data: Any) -> list[Any]:
        """Parse all texts. Raises `ValidationError` with every error."""
        values: list[Any] = []
        errors: list[Any] = []
        for text in texts:
            try:
                values.append(self.inner.deserialize(text, None, data))
            except ValidationError as error:
                errors += error.messages
        if errors:
            raise ValidationError(errors)
        return values


class Once(Parameter):
    """A parameter with one value."""

    def _deserialize(self, value: list[str], attr: str | None, data: Any, **kwargs: Any) -> Any:
        if len(value) > 1:
            raise ValidationError("given more than once")
        return self.each(value, data)[0]


class Several(Parameter):
    """A parameter with values between commas. If it occurs several times, all values count."""

    def _deserialize(self, value: list[str], attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        return list(dict.fromkeys(self.each([text for texts in value for text in texts.split(",")], data)))


class OfClock(Several):
    """A weekday or hour of the record's time, on the local clock."""


class Filter(Parameter):
    """A condition on one field. A single text is split at commas; several are taken whole, commas included."""

    def __init__(self, field: str, operator: Operator, inner: fields.Field[Any]) -> None:
        super().__init__(inner)
        self.field = field
        self.operator = operator

    @property
    def is_whole(self) -> bool:
        return self.operator in _WHOLE

    def _deserialize(self, value: list[str], attr: str | None, data: Any, **kwargs: Any) -> Condition:
        texts = value if self.is_whole or len(value) > 1 else value[0].split(",")
        most = MAX_WHOLE if self.is_whole else MAX_VALUES
        if len(texts) > most:
            raise ValidationError(f"has {len(texts)} values and may have {most}; ask several questions")
        return Condition(self.field, self.operator, self.each(texts, data))


class SortKey(Text):
    """A field's name, with a leading `-` for descending."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(validate=one_of([sign + name for name in names for sign in ("", "-")]))
        self.names = names

    def deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        name = value.removeprefix("+").removeprefix(" ")  # an unescaped plus is a space
        if name.removeprefix("-") not in self.names:
            raise ValidationError(f"{name!r} is none of {', '.join(self.names)}, each with or without - before it")
        return Order(name.removeprefix("-"), descending=name.startswith("-"))


@cache
def filters(record: type[Schema]) -> Mapping[str, Filter]:
    """Return a filter for each operator of each field of the record."""
    return {
        f"{name}__{operator}".removesuffix("__"): Filter(name, operator, reader)
        for name, field in record().fields.items()
        for operator in Operator
        if (reader := _reader(field, operator))
    }


def comparable(record: Schema) -> list[str]:
    """Return the fields by which records can be sorted and counted."""
    return [name for name, field in record.fields.items() if not isinstance(field, Nested)]


def _reader(field: fields.Field[Any], operator: Operator) -> fields.Field[Any] | None:
    """Return the parser of the operator's values for this field, or None if the operator does not fit it."""
    if operator is Operator.NULL:
        return Flag()
    if operator in _WHOLE:
        kinds = (Text, Word, Nested) if operator is Operator.CONTAINS else (Text, Word)
        return _value(field) if isinstance(field, Text) else Text() if isinstance(field, kinds) else None
    return None if isinstance(field, Nested) else _value(field)


def _value(field: fields.Field[Any]) -> fields.Field[Any]:
    """Return the field as the parser of a filter's value, which is never null."""
    value = copy(field)
    value.allow_none = False
    return value
