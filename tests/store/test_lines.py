"""The database's own CSV is, byte for byte, what the general way makes of the records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert
from werkzeug.datastructures import MultiDict

from app.exports import csv
from app.store import pages
from app.store.lines import lines
from app.store.questions import Records
from app.store.schema import deliveries, outcomes
from app.web.exports import RECORDS, columns, wanted

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


def both(database, records: str, parameters: list[tuple[str, str]]) -> tuple[bytes, bytes]:
    asked = wanted(records, MultiDict(parameters), reveal=True)
    shown = columns(RECORDS[records], asked.fields, body=False)
    names = [one.name for one in shown]
    schema = RECORDS[records](reveal=True, only=names)
    stream = pages.stream(database, asked.question, names)
    general = b"".join(csv.blocks(([schema.record(row) for row in rows] for rows in stream), shown, asked.raw))
    fast = lines(database, asked.question, names, asked.raw, 60)
    return csv.header(shown) + b"".join(one.text for one in fast), general


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
def test_the_fast_way_gives_the_very_bytes_of_the_general_one(database, parameters) -> None:
    random = Random(str(parameters))
    with database.writing() as connection:
        connection.execute(insert(outcomes), [odd_row(random) for _ in range(300)])
    fast, general = both(database, "outcomes", parameters)
    assert fast == general
    assert fast.count(b"\r\n") > 1


def test_deliveries_too(database) -> None:
    with database.reading() as connection:
        digest = connection.execute(deliveries.select().limit(1)).mappings().one()["sha256"].hex()
    for parameters in ([], [("sort", "size,-id")], [("sha256", digest)], [("verdict", "duplicate"), ("raw", "true")]):
        fast, general = both(database, "deliveries", parameters)
        assert fast == general
        assert fast.count(b"\r\n") > 1
    assert Records.DELIVERIES.table is deliveries
