"""What may be asked, and how a question that cannot be put is answered."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from app.store.query.question import Condition, Hours, Operator, Order, Question
from app.web import cursors
from app.web.errors import Forbidden, Invalid
from app.web.filters import ListQuery, ListSchema, parse, permit
from app.web.schemas import DeliverySchema, OutcomeSchema

OUTCOMES = ListSchema.about(OutcomeSchema)
DELIVERIES = ListSchema.about(DeliverySchema)
NAMES = [*OUTCOMES.fields, "nobody", "attempts__like", "status__", "__not"]
VALUES = st.sampled_from(
    ["completed", "1", "-1", "true", "2026-03-08", "9999-12-31T23:59:59-23:59", "x,y", "US/Eastern", "status,-id"]
)


def ask(*pairs: tuple[str, str], schema: ListSchema = OUTCOMES) -> ListQuery:
    found: ListQuery = parse(MultiDict(pairs), schema)
    return found


def values(*pairs: tuple[str, str]) -> list:
    [condition] = ask(*pairs).question.conditions
    return list(condition.values)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES | st.text(max_size=12)), max_size=4))
def test_any_query_string_gives_a_question_or_named_errors(pairs) -> None:
    errors = {}
    try:
        ask(*pairs)
    except Invalid as invalid:
        errors = invalid.errors
    assert set(errors) <= {name for name, _ in pairs}
    assert all(texts and all(texts) for texts in errors.values())


def test_commas_part_values_and_a_repeated_parameter_holds_them_whole() -> None:
    assert values(("batch", "a,b")) == ["a", "b"]
    assert values(("batch", "a,b"), ("batch", "c")) == ["a,b", "c"]
    assert values(("batch__not", "a,b")) == ["a", "b"]
    assert values(("attempts__gt", "1,2")) == [1, 2]


@pytest.mark.parametrize("operator", ["prefix", "contains"])
def test_parts_of_texts_are_taken_whole(operator) -> None:
    assert values((f"batch__{operator}", "a,b")) == ["a,b"]
    assert values((f"batch__{operator}", "a,b"), (f"batch__{operator}", "c")) == ["a,b", "c"]


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-03-08", None, "2026-03-08T00:00:00+00:00"),
        ("2026-03-08", "America/New_York", "2026-03-08T05:00:00+00:00"),
        ("2026-03-09", "America/New_York", "2026-03-09T04:00:00+00:00"),
        ("2026-03-08T12:30:00Z", "America/New_York", "2026-03-08T12:30:00+00:00"),
        ("2026-03-08T12:30:00 02:00", None, "2026-03-08T10:30:00+00:00"),
    ],
)
@pytest.mark.parametrize("name", ["since", "until", "queued_at", "queued_at__not", "ended_at__lte"])
def test_a_time_without_offset_is_local_in_the_zone_asked_for(name, text, zone, moment) -> None:
    pairs = [(name, text)] + ([("tz", zone)] if zone else [])
    assert values(*pairs) == [datetime.fromisoformat(moment)]


def test_since_and_until_filter_by_the_time_of_the_order() -> None:
    for schema, moment in ((OUTCOMES, "ended_at"), (DELIVERIES, "received_at")):
        question = ask(("since", "2026-03-08"), ("until", "2026-03-09"), schema=schema).question
        first, last = (datetime(2026, 3, day, tzinfo=UTC) for day in (8, 9))
        assert question.conditions == [
            Condition(moment, Operator.GTE, [first]),
            Condition(moment, Operator.LT, [last]),
        ]
        assert question.order == [Order(moment, descending=True)]


@pytest.mark.parametrize(
    ("pairs", "of_week"),
    [
        ([("weekday", "mon,sun"), ("hour", "0,9")], {0, 9, 144, 153}),
        ([("weekday", "tue")], set(range(24, 48))),
        ([("hour", "23")], {23 + 24 * day for day in range(7)}),
    ],
)
def test_hours_of_the_week_are_days_with_hours_in_the_zone_asked_for(pairs, of_week) -> None:
    for schema, moment in ((OUTCOMES, "ended_at"), (DELIVERIES, "received_at")):
        hours = ask(*pairs, ("tz", "Asia/Kathmandu"), schema=schema).question.hours
        assert hours == Hours(moment, frozenset(of_week), ZoneInfo("Asia/Kathmandu"))
        assert ask(*pairs, schema=schema).question.hours.zone == UTC
    assert ask(("tz", "Asia/Kathmandu")).question.hours is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weekday", "Monday"),
        ("weekday", "1"),
        ("hour", "24"),
        ("hour", "9-10"),
        ("status", "complete"),
        ("status__gt", "x"),
        ("attempts", "-1"),
        ("attempts__lt", "99999999999"),
        ("attempts__prefix", "1"),
        ("id__contains", "a"),
        ("queued_at__prefix", "2026"),
        ("possible_duplicate", "yes"),
        ("batch__null", "yes"),
        ("id", "1"),
        ("ended_at", "yesterday"),
        ("events", "queued"),
        ("events__not", "queued"),
        ("problems__prefix", "["),
        ("extra", "{}"),
        ("limit", "0"),
        ("limit", "1001"),
        ("sort", "extra"),
        ("sort", "-"),
        ("sort", ""),
        ("fields", "id,digest"),
        ("fields", ""),
        ("tz", "Mars/Olympus"),
        ("tz", "../../etc/passwd"),
        ("cursor", "abc"),
        ("count", "guess"),
        ("nobody", "1"),
        ("batch__like", "1"),
    ],
)
def test_errors_are_named(name, value) -> None:
    with pytest.raises(Invalid) as refusal:
        ask((name, value))
    assert list(refusal.value.errors) == [name]


def test_an_unknown_parameter_lists_the_known_ones_briefly() -> None:
    with pytest.raises(Invalid) as refusal:
        ask(("nobody", "1"), ("attempts__prefix", "1"))
    [nobody], [prefix] = refusal.value.errors["nobody"], refusal.value.errors["attempts__prefix"]
    assert all(name in nobody for name in ("disposition", "since", "cursor", "__not", "__contains"))
    assert len(nobody) < 1000
    assert prefix == "unknown; attempts knows =, __not, __gt, __gte, __lt, __lte, __null"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phone_number", "+16175551234"),
        ("phone_number_raw__not", "16175551234"),
        ("phone_number__prefix", "+1617"),
        ("phone_number__null", "true"),
        ("phone_number_raw__gt", "6"),
        ("problems__contains", "617"),
        ("extra__contains", "617"),
        ("sort", "status,-phone_number"),
        ("sort", "phone_number_raw"),
    ],
)
def test_masked_numbers_cannot_be_found_by_asking_for_them(name, value) -> None:
    with pytest.raises(Forbidden):
        permit(ask((name, value)).question, reveal=False)
    permit(ask((name, value)).question, reveal=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("query", "a=6"),
        ("query__prefix", "phone=%36"),
        ("query__gt", "a"),
        ("sort", "query"),
        ("headers__contains", "x"),
    ],
)
def test_masked_users_cannot_search_by_the_query(name, value) -> None:
    with pytest.raises(Forbidden):
        permit(ask((name, value), schema=DELIVERIES).question, reveal=False)
    permit(ask((name, value), schema=DELIVERIES).question, reveal=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra__null", "true"),
        ("extra__contains", "voicemail"),
        ("problems__contains", "not_a_time"),
        ("events__contains", "queued"),
        ("fields", "phone_number"),
    ],
)
def test_queries_that_reveal_no_number_are_allowed_for_read(name, value) -> None:
    permit(ask((name, value)).question, reveal=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("query", "campaign=spring"), ("query__not", "a"), ("query__contains", "a,b"), ("query__null", "false")],
)
def test_deliveries_are_searched_by_text_without_digits_for_read(name, value) -> None:
    permit(ask((name, value), schema=DELIVERIES).question, reveal=False)


def test_a_search_for_digits_of_any_script_needs_reveal() -> None:
    for digit in "6٣९５":
        with pytest.raises(Forbidden):
            permit(ask(("extra__contains", f"a{digit}")).question, reveal=False)
    permit(ask(("extra__contains", "二十")).question, reveal=False)  # which are letters, and are not masked


@pytest.mark.parametrize("text", ["2026-03-08t14:30:00z", "2026-03-08T14:30:00Z", "2026-03-08T09:30:00-05:00"])
def test_a_time_is_read_in_any_case(text) -> None:
    assert values(("ended_at", text)) == [datetime(2026, 3, 8, 14, 30, tzinfo=UTC)]


@pytest.mark.parametrize("text, zone", [("0001-01-01", "Asia/Tokyo"), ("9999-12-31T23:59:59", "America/New_York")])
def test_a_time_beyond_all_is_said_to_be_beyond(text, zone) -> None:
    with pytest.raises(Invalid, match="outside of the years 1 to 9999"):
        ask(("since", text), ("tz", zone))


def test_a_phone_number_whose_plus_was_not_escaped_is_found() -> None:
    for name in ("phone_number", "phone_number__prefix", "phone_number__not"):
        assert values((name, " 16175551234")) == ["+16175551234"]


def test_an_order_has_many_keys_each_way_and_says_each_once() -> None:
    assert ask(("sort", "status,-batch, id,status")).question.order == [
        Order("status"), Order("batch", descending=True), Order("id"),
    ]  # fmt: skip


ROW = {
    "id": UUID(int=5), "ended_at": datetime(2026, 3, 8, 1, 2, 3, 4, tzinfo=UTC), "batch": None, "attempts": 3,
    "possible_duplicate": False, "status": "completed", "call_id": " ,é\U0001f642",
}  # fmt: skip


def marked(question: Question, row: dict, backwards: bool = False) -> str:
    values = [row[order.field] for order in question.whole_order]
    return cursors.write(OutcomeSchema(), question, values, backwards=backwards)


@pytest.mark.parametrize(
    "sort", ["ended_at", "-ended_at", "batch,-attempts", "possible_duplicate,status,-id", "call_id"]
)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_cursor_contains_the_values_of_its_row(sort, backwards) -> None:
    question = ask(("sort", sort)).question
    mark = marked(question, ROW, backwards)
    edge = ask(("sort", sort), ("cursor", mark)).question.edge
    assert edge
    assert list(edge.values) == [ROW[order.field] for order in question.whole_order]
    assert edge.backwards is backwards


@pytest.mark.parametrize("sort", ["ended_at", "-ended_at,batch", "-id"])
def test_a_cursor_belongs_to_its_order(sort) -> None:
    mark = marked(ask().question, ROW)
    with pytest.raises(Invalid):
        ask(("cursor", mark), ("sort", sort))


@pytest.mark.parametrize(
    "backwards, ended_at, key",
    [
        (False, None, str(ROW["id"])),
        (False, {"digest": "0"}, str(ROW["id"])),
        (False, "2026-03-08T12:00:00Z", {"digest": "0"}),
        (1, "2026-03-08T12:00:00Z", str(ROW["id"])),
    ],
)
def test_a_foreign_cursor_is_refused(backwards, ended_at, key) -> None:
    content = json.dumps([backwards, ["outcomes", "-ended_at", "id"], [ended_at, key]]).encode()
    mark = base64.urlsafe_b64encode(cursors._sum(content) + content).decode().rstrip("=")
    with pytest.raises(Invalid, match="not a cursor"):
        ask(("cursor", mark))


@pytest.mark.parametrize("length", [7, 100_000])
def test_a_cursor_is_short_however_long_its_texts(length) -> None:
    question = ask(("sort", "message_reference")).question
    mark = marked(question, ROW | {"message_reference": "é" * length})
    assert len(mark) < 400


def test_a_changed_cursor_is_refused() -> None:
    mark = marked(ask().question, ROW)
    for at in range(len(mark)):
        other = "A" if mark[at] != "A" else "B"
        for changed in (mark[:at] + other + mark[at + 1 :], mark[:at], mark[:at] + mark[at + 1 :]):
            with pytest.raises(Invalid):
                ask(("cursor", changed))


@pytest.mark.parametrize("name, most", [("call_id", 10_000), ("call_id__contains", 500), ("call_id__prefix", 500)])
def test_more_values_than_engines_take_are_refused_with_the_bound(name, most) -> None:
    texts = [f"call-{number}" for number in range(most + 1)]
    assert len(values(*((name, text) for text in texts[:most]))) == most
    with pytest.raises(Invalid) as refused:
        ask(*((name, text) for text in texts))
    assert refused.value.errors == {name: [f"has {most + 1} values and may have {most}; ask several questions"]}


def test_all_filters_together_have_a_bound_too() -> None:
    """Engines count the parameters of a whole statement."""
    pairs = [(name, f"value-{number}") for name in ("call_id", "reference", "batch") for number in range(4000)]
    with pytest.raises(Invalid) as refused:
        ask(*pairs)
    assert refused.value.errors == {"call_id": ["all filters together may have 10000 values; ask several questions"]}
