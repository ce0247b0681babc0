"""Files of outcomes hold the records of the list, in its order, wherever a stretch of time ends."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.analytics import files
from app.analytics.protocol import File
from app.exports.cells import guarded, json_text
from app.interpret import interpret
from app.model import Delivery
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.store.readings import save
from app.web.fields import Text
from app.web.schemas import OutcomeSchema
from tests.analytics.conftest import on_a_full_store
from tests.store.oracle import add_odd_texts, all_rows, chosen

FIELDS = OutcomeSchema().fields
ORDERS = [[Order("ended_at", descending=True)], [Order("ended_at")], [Order("batch"), Order("ended_at")]]
LINE_ENDS = "a\x0bb\x0cc\x85d\u2028e\u2029f\ng\rh"


@pytest.fixture
def records(database) -> list[dict]:
    """Calls with texts that files have to quote, escape or guard, and with times of every precision."""
    add_odd_texts(database)
    at = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    times = [at + timedelta(hours=hours, microseconds=part) for hours in range(6) for part in (0, 1, 450_000)]
    texts = [*(f"{first}1" for first in "=+-@\t\r\"',;'"), LINE_ENDS]
    bodies = [{"call_id": text, "message_reference": text[::-1], "result": "x", "note": text} for text in texts]
    save(
        database,
        [
            interpret(
                Delivery(
                    id=uuid4(), integration="ours", received_at=moment, body=json.dumps(body).encode(), batch=text
                )
            )
            for moment, body, text in zip(times, [*bodies, *bodies], [*texts, *texts], strict=False)
        ],
    )
    return all_rows(database)


@on_a_full_store
@pytest.mark.parametrize("reveal", [True, False], ids=["reveal", "read"])
@pytest.mark.parametrize("stretches", [(1, 1), (3_000, 10_000), (files.FIRST_STRETCH_BYTES, 1 << 30)])
def test_a_file_holds_the_records_of_the_list_in_its_order(records, router, monkeypatch, stretches, reveal) -> None:
    monkeypatch.setattr(files, "FIRST_STRETCH_BYTES", stretches[0])
    monkeypatch.setattr(files, "_memory_bytes", lambda cursor: stretches[1] * files.STRETCHES_IN_MEMORY)
    schema = OutcomeSchema(reveal=reveal)
    for order in ORDERS:
        question = Question(
            records=Records.OUTCOMES, conditions=[Condition("status", Operator.NOT, ["failed"])], order=order
        )
        wanted = [schema.record(row) for row in chosen(records, question)]
        assert wanted
        for raw in (True, False):
            assert in_csv(content(router, File("csv", question, list(FIELDS), reveal, raw))) == [
                {name: cell(name, value, raw) for name, value in record.items()} for record in wanted
            ]
        ndjson = content(router, File("ndjson", question, list(FIELDS), reveal))
        assert [json.loads(line) for line in ndjson.splitlines()] == wanted  # Unicode's line ends are escaped


def content(router, file: File) -> str:
    return b"".join(router.file(file)).decode()


def in_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def cell(name: str, value: object, raw: bool) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json_text(value)
    return guarded(text) if isinstance(FIELDS[name], Text) and not raw else text
