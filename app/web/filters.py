"""Parses an analyst's query string into a Question and the fields to show, or names every error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from typing import Any, ClassVar, Self

from marshmallow import RAISE, Schema, ValidationError, fields, post_load
from werkzeug.datastructures import MultiDict

from app.analytics.answers import GROUPS
from app.masking import MASKED_WITHIN, PHONE_FIELDS
from app.query_router import Kind
from app.store.query.buckets import Bucket
from app.store.query.question import Condition, Hours, Operator, Order, Question, Weekday
from app.web import cursors
from app.web.errors import Forbidden, Invalid
from app.web.fields import Moment, Number, Text, Word, Zone, one_of
from app.web.parameters import MAX_VALUES, Filter, OfClock, Once, Several, SortKey, comparable, filters
from app.web.schemas import RecordSchema

MAX_LIMIT = 1000
# Without digits in their values these find only text that everybody sees.
_TEXT_OPERATORS = {Operator.EQUAL, Operator.NOT, Operator.PREFIX, Operator.CONTAINS}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A question, and the fields to show of its records, in this order; None for all."""

    question: Question
    fields: list[str] | None = None
    count: Kind = Kind.NONE

    def also(self, field: str, values: Sequence[Any]) -> ListQuery:
        """Return a copy with one more condition: the field has any of these values."""
        condition = Condition(field, Operator.EQUAL, values)
        return replace(self, question=replace(self.question, conditions=[*self.question.conditions, condition]))


class QuestionSchema(Schema):
    """The parameters that all questions have. `about` makes one for a record; an unknown parameter is an error."""

    record: ClassVar[RecordSchema]

    class Meta:
        unknown = RAISE

    @classmethod
    def about(cls, record: type[RecordSchema], without: str | None = None) -> Self:
        """Return the schema for these records, without filters on `without`, the field that the URL's path sets."""
        record_schema = record()
        of_fields = {name: each for name, each in filters(record).items() if each.field != without}
        schema = cls.from_dict(of_fields | cls._controls(record_schema), name=f"{cls.__name__}About{record.__name__}")
        schema.record = record_schema  # type: ignore[attr-defined]
        return schema()  # type: ignore[return-value]

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        """Return the parameters other than filters."""
        return {
            "since": Once(Moment(), metadata=_described(f"`{record.moment}` is at or after this time", "2026-01-01")),
            "until": Once(
                Moment(), metadata=_described(f"`{record.moment}` is before this time", "2027-01-01T00:00:00Z")
            ),
            "weekday": OfClock(Word(Weekday), metadata=_described("Days of the week, local in `tz`")),
            "hour": OfClock(Number(0, 23), metadata=_described("Hours of the day, 0 to 23, local in `tz`")),
            "tz": Once(
                Zone(),
                metadata=_described("The zone of times without an offset; default UTC", "America/New_York"),
            ),
        }

    def __deepcopy__(self, memo: Any) -> Self:
        """Return self: a schema never changes, and flask-smorest copies its arguments again and again."""
        return self

    def question(self, loaded: Mapping[str, Any]) -> Question:
        """Return the question with its conditions only: without sort order, limit and cursor."""
        by_name = {name: value for name, value in loaded.items() if isinstance(value, Condition)}
        conditions = list(by_name.values())
        if sum(len(condition.values) for condition in conditions) > MAX_VALUES:
            longest = max(by_name, key=lambda name: len(by_name[name].values))
            raise ValidationError(
                {longest: [f"all filters together may have {MAX_VALUES} values; ask several questions"]}
            )
        for name, operator in (("since", Operator.GTE), ("until", Operator.LT)):
            if name in loaded:
                conditions.append(Condition(self.record.moment, operator, [loaded[name]]))
        return Question(records=self.record.records, conditions=conditions, hours=self._hours(loaded))

    def _hours(self, loaded: Mapping[str, Any]) -> Hours | None:
        if "weekday" not in loaded and "hour" not in loaded:
            return None
        days, hours = loaded.get("weekday", Weekday), loaded.get("hour", range(24))
        of_week = frozenset(24 * list(Weekday).index(day) + hour for day in days for hour in hours)
        return Hours(self.record.moment, of_week, loaded.get("tz", UTC))

    def handle_error(self, error: ValidationError, data: Mapping[str, Any], **kwargs: Any) -> None:
        messages: dict[str, Any] = error.messages  # type: ignore[assignment]
        for name in data.keys() - self.fields.keys():
            messages[name] = [self._allowed(name)]

    def _allowed(self, name: str) -> str:
        """Return which parameters are allowed instead, in short: there are hundreds."""
        filters = [field for field in self.fields.values() if isinstance(field, Filter)]
        if of_field := [each for each in filters if each.field == name.rpartition("__")[0]]:
            return f"unknown; {of_field[0].field} knows {', '.join(_spelled(each.operator) for each in of_field)}"
        others = [other for other, field in self.fields.items() if not isinstance(field, Filter)]
        known = ", ".join([*dict.fromkeys(each.field for each in filters), *others])
        return f"unknown; there are {known}; fields also with {', '.join(map(_spelled, Operator))}"


_LIMIT = "Records per page, default 100. A page of large records holds fewer; `next` continues after them"


class ListSchema(QuestionSchema):
    """The parameters of a list: filters, sort order and page."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        field_name = Text(validate=one_of(list(record.fields)))
        newest = [f"-{record.moment}", "id"]
        return super()._controls(record) | {
            "sort": Several(
                SortKey(comparable(record)), metadata=_described("The sort order, nulls last; ties by id", newest)
            ),
            "limit": Once(Number(1, MAX_LIMIT), metadata=_described(_LIMIT, 10)),
            "cursor": Once(Text(), metadata=_described("Opaque; part of the URLs `next` and `prev`")),
            "fields": Several(
                field_name, metadata=_described("Only these fields, in this order", ["id", record.moment])
            ),
            "count": Once(Word(Kind), metadata=_described("Count all matching records, on every page", "exact")),
        }

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> ListQuery:
        order = loaded.get("sort", [Order(self.record.moment, descending=True)])
        question = replace(self.question(loaded), order=order, limit=loaded.get("limit", 100))
        if "cursor" in loaded:
            question = replace(question, edge=self._edge(question, loaded["cursor"]))
        return ListQuery(question, loaded.get("fields"), Kind(loaded.get("count", Kind.NONE)))

    def _edge(self, question: Question, mark: str) -> Any:
        try:
            return cursors.read(self.record, question, mark)
        except ValidationError as error:
            raise ValidationError({"cursor": error.messages}) from None


class MissingSchema(QuestionSchema):
    """The parameters of counts: filters only."""

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> ListQuery:
        return ListQuery(self.question(loaded))


class FacetsSchema(QuestionSchema):
    """The parameters of facets: filters, and the fields whose values are counted."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        names = comparable(record)
        messages = {"required": f"name the fields to count: one or more of {', '.join(names)}"}
        field_name = Text(validate=one_of(names))
        description = _described("Count the values of these fields", ["status", "disposition"])
        return super()._controls(record) | {
            "fields": Several(field_name, required=True, error_messages=messages, metadata=description)
        }

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> ListQuery:
        return ListQuery(self.question(loaded), loaded["fields"])


@dataclass(frozen=True, slots=True)
class SummaryQuery:
    """A summary grouped by these fields, one of which may be a bucket of local time."""

    question: Question
    group_by: list[str]
    zone: tzinfo


class SummarySchema(QuestionSchema):
    """The parameters of a summary: filters and groups."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        key = Text(validate=one_of([*Bucket, *GROUPS]))
        description = _described("Group by these, at most one of them a bucket of local time", ["day", "status"])
        return super()._controls(record) | {"group_by": Several(key, validate=_one_bucket, metadata=description)}

    @post_load
    def build_query(self, loaded: dict[str, Any], **kwargs: Any) -> SummaryQuery:
        return SummaryQuery(self.question(loaded), loaded.get("group_by", []), loaded.get("tz", UTC))


def _one_bucket(group_by: list[str]) -> None:
    buckets = [name for name in group_by if name in list(Bucket)]
    if len(buckets) > 1:
        raise ValidationError(f"{' and '.join(buckets)} cannot be grouped by together; choose one")


def parse(args: MultiDict[str, str], schema: Schema) -> Any:
    """Parse the parameters by the schema. Raises `Invalid` with every error by parameter."""
    try:
        return schema.load(dict(args.lists()))
    except ValidationError as error:
        raise Invalid(error.messages) from None  # type: ignore[arg-type]


def permit(question: Question, *, reveal: bool, listed_fields: Iterable[str] = ()) -> None:
    """Raises `Forbidden` if the response would reveal a masked phone number.

    A caller without `reveal` may not filter or sort by phone numbers, may not list them as values (`listed_fields`),
    and may not search for digits in fields that can contain them.
    """
    if not reveal and (refused := revealing(question, listed_fields)):
        raise Forbidden(f"asking by {', '.join(refused)} may give phone numbers away; it needs the scope reveal")


def revealing(question: Question, listed_fields: Iterable[str] = ()) -> list[str]:
    """Return the fields by which the response may reveal a masked number; `listed_fields` are listed as values."""
    filtered = {condition.field for condition in question.conditions}
    listed = {key.field for key in question.order} | set(listed_fields)
    digits = {condition.field for condition in question.conditions if _may_find_digits(condition)}
    return sorted((filtered | listed) & PHONE_FIELDS | listed & {"query"} | digits & MASKED_WITHIN)


def _may_find_digits(condition: Condition) -> bool:
    """True if the result may depend on digits, which masking hides. `headers` may not be searched at all."""
    if condition.operator is Operator.NULL:
        return False
    if condition.field == "headers" or condition.operator not in _TEXT_OPERATORS:
        return True
    return any(character.isdecimal() for value in condition.values for character in str(value))


def _described(text: str, example: Any = None) -> dict[str, Any]:
    return {"description": text} | ({} if example is None else {"example": example})


def _spelled(operator: Operator) -> str:
    return f"__{operator}" if operator else "="
