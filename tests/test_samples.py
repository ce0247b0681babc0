"""Bodies verbatim, the expected reading beside each: what Plum sends, and what we make of it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from app.interpret import interpret
from app.model import Delivery, Outcome, Product, Reading
from app.store.rows import outcome_row
from app.web.schemas import OutcomeSchema

SAMPLES = sorted((Path(__file__).parent / "samples").rglob("*.body"))


@pytest.mark.parametrize("body", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_sample_reads_as_written_beside_it(body: Path) -> None:
    expected = json.loads(body.with_suffix(".expected.json").read_text())
    shown = _shown(_read(body.read_bytes(), expected["delivery"]))
    if "outcome" in expected:
        outcome = expected["outcome"]
        assert _sorted(shown) == _sorted(outcome)
    else:
        assert shown == expected["quarantined"]


def test_there_are_samples_of_every_product() -> None:
    assert {path.parent.name for path in SAMPLES} == {"dev", "insight", "fuse", "unreadable"}
    assert len(SAMPLES) >= 60


def _read(body: bytes, delivery: dict[str, str | None]) -> Reading:
    product = delivery["product"]
    return interpret(
        Delivery(
            id=UUID(int=1),
            integration="samples",
            product=Product(product) if product else None,
            received_at=datetime(2026, 1, 1, tzinfo=UTC),
            body=body,
            content_type=delivery["content_type"],
            reference=delivery["reference"],
            batch=delivery["batch"],
        )
    )


def _shown(reading: Reading) -> object:
    if reading.outcome is None:
        return reading.reason
    record = OutcomeSchema(reveal=True).record(dict(zip(Outcome._fields, outcome_row(reading.outcome), strict=True)))
    ours = {
        "id",
        "integration",
        "normaliser",
        "received_at",
        "updated_at",
        "deliveries",
        "possible_duplicate",
        "metadata",
    }
    return {name: value for name, value in record.items() if name not in ours}


def _sorted(record: object) -> object:
    if not isinstance(record, dict):
        return record
    problems = sorted(record["problems"], key=lambda problem: json.dumps(problem, sort_keys=True))
    return record | {"problems": problems}
