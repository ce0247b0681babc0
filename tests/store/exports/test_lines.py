"""What exports make of a store's rows is, byte for byte, what lists show of them."""

from __future__ import annotations

import csv as python_csv
import io
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update
from werkzeug.datastructures import MultiDict

from app.exports import csv, ndjson
from app.exports.cells import GUARDED, json_text
from app.exports.columns import Batch, Kind, Mask
from app.interpret import interpret
from app.model import Delivery
from app.store.answers import pages
from app.store.asking.questions import Question, Records
from app.store.exports.lines import lines
from app.store.exports.texts import texts
from app.store.readings import save
from app.store.schema import deliveries, outcomes
from app.web.exports import RECORDS, columns, wanted
from app.web.masking import masks

PIECES = [
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\r\n",
    '"',
    ",",
    "'",
    "\\.",
    "\\",
    "é",
    "😀",
    "a",
    " ",
    "0",
    "%s",
    ":x",
]
START = datetime(2026, 3, 8, 12, tzinfo=UTC)
ALL = 1_000_000  # rows: more than there are


@pytest.fixture
def fullness() -> str:
    return "full"


def text(random: Random) -> str:
    return "".join(random.choice(PIECES) for _ in range(random.randint(1, 4)))


def moment(random: Random) -> datetime:
    fraction = random.choice([0, 0, 1, 10, 123456, 500000, 100, 999999])
    return START + timedelta(seconds=random.randint(0, 10**7), microseconds=fraction)


def odd_row(random: Random) -> dict:
    """An outcome whose texts, times and JSON are of the nastiest kinds."""
    row = {column.name: None for column in outcomes.c}
    for name in ("call_id", "message_reference", "reference", "batch", "phone_number", "phone_number_raw",
                 "status_raw", "callee_type_raw"):  # fmt: skip
        row[name] = random.choice([None, text(random)])
    for name in ("queued_at", "start_at", "end_at", "last_attempt_at", "connected_at", "disconnected_at"):
        row[name] = random.choice([None, moment(random)])
    nested = [[], {}, [{"event": text(random), "at": None}], {text(random): [1, 2.5, True, None, "é"]}]
    return row | {
        "id": UUID(int=random.getrandbits(128)),
        "integration": text(random), "product": "dev", "identity": "none", "status": "unknown",
        "disposition": "unknown", "attempts": random.choice([None, 0, 2**31 - 1]), "deliveries": 1,
        "ended_at": moment(random), "received_at": moment(random), "updated_at": moment(random),
        "events": random.choice(nested), "extra": random.choice(nested), "problems": [],
        "possible_duplicate": random.random() < 0.5, "normaliser": "1", "digest": "x",
    }  # fmt: skip


def all_ways(
    database, records: str, parameters: list[tuple[str, str]], reveal: bool = True
) -> tuple[bytes, bytes, bytes]:
    """CSV by the database, by columns, and by record: each shown as lists show it, written by Python's own CSV."""
    asked = wanted(records, MultiDict(parameters), reveal=reveal)
    shown = columns(RECORDS[records], asked.fields, body=False)
    names = [one.name for one in shown]
    hidden = {} if reveal else masks()
    fast = lines(database, asked.question, names, asked.raw, hidden, 60)
    by_columns = csv.blocks(batches(database, asked.question, names, hidden), shown, asked.raw)
    schema = RECORDS[records](reveal=reveal, only=names)
    rows = pages.page(database, replace(asked.question, limit=ALL)).rows
    text = io.StringIO(newline="")
    writer = python_csv.writer(text)
    writer.writerow(names)
    writer.writerows([cell(schema.record(row)[name], kind, asked.raw) for name, kind in shown] for row in rows)
    return csv.header(shown) + b"".join(one.text for one in fast), b"".join(by_columns), text.getvalue().encode()


def batches(database, question, names: list[str], hidden: dict[str, Mask]) -> Iterator[Batch]:
    """By columns, of which those with a mask are masked."""
    for batch in texts(database, question, names, 60):
        each = zip(names, batch, strict=True)
        yield [[hidden[name](text) for text in one] if name in hidden else one for name, one in each]


def cell(value: Any, kind: Kind, raw: bool) -> str:
    if value is None:
        return ""
    if kind is Kind.TEXT:
        return f"'{value}" if not raw and value.startswith(GUARDED) else value
    return str(value).lower() if kind is Kind.FLAG else json_text(value) if kind is Kind.JSON else str(value)


QUESTIONS = [
    [],
    [("raw", "true")],
    [("sort", "batch,-phone_number_raw,status")],
    [("fields", "extra,id,batch,ended_at,possible_duplicate"), ("sort", "-updated_at")],
    [("batch__null", "true"), ("status", "unknown,completed"), ("since", "2026-01-01"), ("attempts__gte", "0")],
    [("call_id__prefix", "="), ("extra__contains", '"')],
    [("batch", "%s"), ("batch", "'"), ("batch", ":x"), ("batch", "\\.")],
    [("possible_duplicate", "true"), ("id__not", str(uuid4())), ("tz", "America/New_York"), ("until", "2026-06-01")],
]


@pytest.mark.parametrize("parameters", QUESTIONS)
def test_the_fast_ways_give_the_very_bytes_of_the_general_one(database, parameters) -> None:
    random = Random(str(parameters))
    with database.writing() as connection:
        connection.execute(insert(outcomes), [odd_row(random) for _ in range(300)])
    fast, by_columns, general = all_ways(database, "outcomes", parameters)
    assert fast == general
    assert by_columns == general
    assert fast.count(b"\r\n") > 1


def test_deliveries_too(database) -> None:
    with database.reading() as connection:
        digest = connection.execute(deliveries.select().limit(1)).mappings().one()["sha256"].hex()
    for parameters in ([], [("sort", "size,-id")], [("sha256", digest)], [("verdict", "duplicate"), ("raw", "true")]):
        fast, by_columns, general = all_ways(database, "deliveries", parameters)
        assert fast == by_columns == general
        assert fast.count(b"\r\n") > 1
    assert Records.DELIVERIES.table is deliveries


@pytest.mark.parametrize("records", ["outcomes", "deliveries"])
def test_a_record_is_what_its_schema_dumps(database, records) -> None:
    random = Random(2)
    with database.writing() as connection:
        connection.execute(insert(outcomes), [odd_row(random) for _ in range(100)])
    asked = wanted(records, MultiDict(), reveal=True)
    rows = pages.page(database, replace(asked.question, limit=ALL)).rows
    for schema in (RECORDS[records](reveal=True), RECORDS[records](reveal=True, only=["id", "problems"])):
        assert [schema.record(row) for row in rows] == schema.dump(rows, many=True)
    assert rows or records == "deliveries"


@pytest.mark.parametrize("records", ["outcomes", "deliveries"])
@pytest.mark.parametrize("reveal", [True, False])
def test_records_by_columns_are_what_lists_show(database, records, reveal) -> None:
    random = Random(1)
    with database.writing() as connection:
        connection.execute(insert(outcomes), [odd_row(random) | of_phones(random) for _ in range(300)])
    asked = wanted(records, MultiDict(), reveal=reveal)
    schema = RECORDS[records](reveal=reveal)
    names = list(schema.fields)
    shown = [schema.record(row) for row in pages.page(database, replace(asked.question, limit=ALL)).rows]
    found = batches(database, asked.question, names, {} if reveal else masks())
    lines = b"".join(ndjson.blocks(found, columns(RECORDS[records], None, body=False), False)).decode()
    assert lines == "".join(f"{json_text(record)}\n" for record in shown)


PHONES = [
    "",
    "6175551234",
    "(617) 555-12 34",
    "x",
    "12",
    "+16175551234;ani=1",
    "tel:+16175551234;ani=8009957586;postd=2",
    "\"'6173720293'\"",
    "٣٤٥٦٧",
    "617555123٤",
    "5555551234 at 2026-03-08 14:00",
]


def of_phones(random: Random) -> dict:
    phone = random.choice(PHONES)
    return {
        "phone_number_raw": random.choice([None, phone]),
        "phone_number": random.choice([None, "+16175551234", "+1234567", "+12345678"]),
        "extra": random.choice([{}, {"ani": phone, "6175551234": [1, 6175551234]}]),
        "problems": random.choice([[], [{"field": "phone_number", "value": phone, "problem": "not a number"}]]),
    }


MASKED_QUESTIONS = [
    [],
    [("raw", "true")],
    [("fields", "problems,phone_number")],
    [("fields", "phone_number_raw,phone_number,status"), ("raw", "true")],
    [("fields", "ended_at,extra,batch,phone_number,queued_at")],
    [("fields", "extra,problems"), ("sort", "batch")],
    [("fields", "ended_at,attempts")],
]


@pytest.mark.parametrize("parameters", MASKED_QUESTIONS)
def test_masked_lines_are_the_very_bytes_too(database, parameters) -> None:
    random = Random(str(parameters))
    with database.writing() as connection:
        connection.execute(insert(outcomes), [odd_row(random) | of_phones(random) for _ in range(300)])
    fast, by_columns, general = all_ways(database, "outcomes", parameters, reveal=False)
    assert fast == general
    assert by_columns == general
    assert fast.count(b"\r\n") > 1


@pytest.mark.parametrize("parameters", [[], [("raw", "true")], [("fields", "query,id,problems,headers")]])
def test_of_deliveries_phones_in_queries_and_headers_are_masked_in_the_same_way(database, parameters) -> None:
    queries = ["=+16175551234", "a=1,2&caller=6175551234", '"', "", "{}", "+", "x\r\n(617) 555-1234", "•é"]
    with database.writing() as connection:
        for at, key in enumerate(
            connection.scalars(deliveries.select().limit(40).with_only_columns(deliveries.c.id))
        ):
            asked = update(deliveries).where(deliveries.c.id == key)
            query = queries[at % len(queries)]
            connection.execute(asked.values(query=query, headers=[["Referer", query], [query, "6175551234"]]))
    fast, by_columns, general = all_ways(database, "deliveries", parameters, reveal=False)
    assert fast == by_columns == general
    assert "•••1234".encode() in fast
    assert b"6175551234" not in fast


storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
phones = st.sampled_from(PHONES[1:]) | storable | st.text("+0123456789٤", min_size=1, max_size=14)
nested = st.dictionaries(storable | phones, phones | st.integers() | st.lists(phones | st.none()), max_size=3)
problem = st.fixed_dictionaries({"field": storable, "value": phones | nested | st.none(), "problem": st.just("odd")})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "phone_number": st.none() | phones,
                "phone_number_raw": st.none() | phones,
                "batch": st.none() | phones,
                "extra": nested,
                "problems": st.lists(problem, max_size=2),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_whatever_texts_hold_masked_lines_are_the_very_bytes(database, some, raw) -> None:
    random = Random(3)
    with database.writing() as connection:
        connection.execute(delete(outcomes).where(outcomes.c.integration == "any"))
        rows = [odd_row(random) | one | {"integration": "any"} for one in some]
        connection.execute(insert(outcomes), rows)
    parameters = [("integration", "any"), ("raw", str(raw).lower())]
    fast, by_columns, general = all_ways(database, "outcomes", parameters, reveal=False)
    assert fast == general
    assert by_columns == general
    assert fast.count(b"\r\n") > len(some)


@pytest.mark.parametrize("fields", [["id", "extra"], ["id", "body"]])
def test_of_large_rows_an_export_holds_few_at_once(database, monkeypatch, fields) -> None:
    sent = {uuid4(): b"call_id=%d&odd=" % number + b"\xe9,\n" * 1000 for number in range(20)}
    with database.writing() as connection:
        connection.execute(delete(deliveries))
        connection.execute(delete(outcomes))
    came = [Delivery(id=key, integration="large", received_at=START, body=body) for key, body in sent.items()]
    save(database, [interpret(one) for one in came])
    monkeypatch.setattr("app.store.exports.batches.BATCH_BYTES", 10_000)
    records = Records.DELIVERIES if "body" in fields else Records.OUTCOMES
    found = list(texts(database, Question(records=records), fields, 60))
    assert sum(len(keys) for keys, _ in found) == 20
    assert max(len(keys) for keys, _ in found) <= 4
    if records is Records.DELIVERIES:
        shown = {UUID(key): b64decode(text) for batch in found for key, text in zip(*batch, strict=True)}
        assert shown == sent
