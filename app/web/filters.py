"""What an analyst asks in a query string: a Question and what to show of it, or every error named."""

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


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what to show of its records: `fields` in this order, None for all."""

    question: Question
    fields: list[str] | None = None
    count: Kind = Kind.NONE

    def also(self, field: str, values: Sequence[Any]) -> Asked:
        """The same of those records alone whose field has any of these values."""
        condition = Condition(field, Operator.EQUAL, values)
        return replace(self, question=replace(self.question, conditions=[*self.question.conditions, condition]))


class QuestionSchema(Schema):
    """What all questions have in common. Made for a record by `about`; a parameter that there is not is named."""

    record: ClassVar[RecordSchema]

    class Meta:
        unknown = RAISE

    @classmethod
    def about(cls, record: type[RecordSchema], without: str | None = None) -> Self:
        """For questions about these records, but for filters on the one field that is given otherwise."""
        made = record()
        parameters = filters(made, without=without) | cls._controls(made)
        schema = cls.from_dict(parameters, name=f"{cls.__name__}About{record.__name__}")
        schema.record = made  # type: ignore[attr-defined]
        return schema()  # type: ignore[return-value]

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        """The parameters beside the filters."""
        return {
            "since": Once(Moment(), metadata=_says(f"`{record.moment}` is then or later", "2026-01-01")),
            "until": Once(Moment(), metadata=_says(f"`{record.moment}` is earlier", "2027-01-01T00:00:00Z")),
            "weekday": OfClock(Word(Weekday), metadata=_says("Days of the week, local in `tz`")),
            "hour": OfClock(Number(0, 23), metadata=_says("Hours of the day, 0 to 23, local in `tz`")),
            "tz": Once(
                Zone(), metadata=_says("Where times without an offset are local; UTC unless said", "America/New_York")
            ),
        }

    def __deepcopy__(self, memo: Any) -> Self:
        """Itself: it never changes, and what documents views copies what it is given again and again."""
        return self

    def question(self, loaded: Mapping[str, Any]) -> Question:
        """The conditions alone."""
        named = {name: one for name, one in loaded.items() if isinstance(one, Condition)}
        conditions = list(named.values())
        if sum(len(one.values) for one in conditions) > MAX_VALUES:
            longest = max(named, key=lambda name: len(named[name].values))
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
        """What could stand instead, in few words: there are hundreds of parameters."""
        conditions = [field for field in self.fields.values() if isinstance(field, Filter)]
        if named := [one for one in conditions if one.field == name.rpartition("__")[0]]:
            return f"unknown; {named[0].field} knows {', '.join(_spelled(one.operator) for one in named)}"
        others = [other for other, field in self.fields.items() if not isinstance(field, Filter)]
        known = ", ".join([*dict.fromkeys(one.field for one in conditions), *others])
        return f"unknown; there are {known}; fields also with {', '.join(map(_spelled, Operator))}"


_LIMIT = "Records on a page, 100 unless said; where they are large it holds fewer, and `next` goes on behind them"


class ListSchema(QuestionSchema):
    """A list: which records, in which order, which page."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        shown = Text(validate=one_of(list(record.fields)))
        newest = [f"-{record.moment}", "id"]
        return super()._controls(record) | {
            "sort": Several(
                SortKey(comparable(record)), metadata=_says("In this order, nulls last; ties by id", newest)
            ),
            "limit": Once(Number(1, MAX_LIMIT), metadata=_says(_LIMIT, 10)),
            "cursor": Once(Text(), metadata=_says("Opaque; it stands in the URLs `next` and `prev`")),
            "fields": Several(shown, metadata=_says("Only these, in this order", ["id", record.moment])),
            "count": Once(Word(Kind), metadata=_says("Count the whole filter, on every page", "exact")),
        }

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> Asked:
        order = loaded.get("sort", [Order(self.record.moment, descending=True)])
        question = replace(self.question(loaded), order=order, limit=loaded.get("limit", 100))
        if "cursor" in loaded:
            question = replace(question, edge=self._edge(question, loaded["cursor"]))
        return Asked(question, loaded.get("fields"), Kind(loaded.get("count", Kind.NONE)))

    def _edge(self, question: Question, mark: str) -> Any:
        try:
            return cursors.read(self.record, question, mark)
        except ValidationError as error:
            raise ValidationError({"cursor": error.messages}) from None


class MissingSchema(QuestionSchema):
    """Which calls are counted."""

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> Asked:
        return Asked(self.question(loaded))


class FacetsSchema(QuestionSchema):
    """How often each value of some fields stands."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        names = comparable(record)
        missing = {"required": f"say of which fields: one or more of {', '.join(names)}"}
        counted = Text(validate=one_of(names))
        says = _says("Count the values of these", ["status", "disposition"])
        return super()._controls(record) | {
            "fields": Several(counted, required=True, error_messages=missing, metadata=says)
        }

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> Asked:
        return Asked(self.question(loaded), loaded["fields"])


@dataclass(frozen=True, slots=True)
class SummaryAsked:
    """Figures by these fields and perhaps a bucket of local time."""

    question: Question
    group_by: list[str]
    zone: tzinfo


class SummarySchema(QuestionSchema):
    """Figures by groups."""

    @classmethod
    def _controls(cls, record: RecordSchema) -> dict[str, fields.Field[Any]]:
        key = Text(validate=one_of([*Bucket, *GROUPS]))
        says = _says("Group by these, at most one of them a bucket of local time", ["day", "status"])
        return super()._controls(record) | {"group_by": Several(key, validate=_one_bucket, metadata=says)}

    @post_load
    def asked(self, loaded: dict[str, Any], **kwargs: Any) -> SummaryAsked:
        return SummaryAsked(self.question(loaded), loaded.get("group_by", []), loaded.get("tz", UTC))


def _one_bucket(group_by: list[str]) -> None:
    buckets = [name for name in group_by if name in list(Bucket)]
    if len(buckets) > 1:
        raise ValidationError(f"{' and '.join(buckets)} cannot be grouped by together; choose one")


def asked(args: MultiDict[str, str], schema: Schema) -> Any:
    """What the parameters ask. Raises `Invalid` with every error by parameter."""
    try:
        return schema.load(dict(args.lists()))
    except ValidationError as error:
        raise Invalid(error.messages) from None  # type: ignore[arg-type]


def permit(question: Question, *, reveal: bool, told: Iterable[str] = ()) -> None:
    """Raises `Forbidden` where an answer would give a masked number away.

    Who sees phones masked may neither compare nor order by them, nor have them told as values, nor look for
    digits where phones may stand among other things.
    """
    if not reveal and (refused := revealing(question, told)):
        raise Forbidden(f"asking by {', '.join(refused)} may give phone numbers away; it needs the scope reveal")


def revealing(question: Question, told: Iterable[str] = ()) -> list[str]:
    """The fields by which an answer may give a masked number away."""
    compared = {one.field for one in question.conditions} | {one.field for one in question.order} | set(told)
    searched = {one.field for one in question.conditions if one.operator is Operator.CONTAINS} & MASKED_WITHIN
    return sorted((compared & (PHONE_FIELDS | {"query"})) | searched)


def _says(text: str, example: Any = None) -> dict[str, Any]:
    return {"description": text} | ({} if example is None else {"example": example})


def _spelled(operator: Operator) -> str:
    return f"__{operator}" if operator else "="
