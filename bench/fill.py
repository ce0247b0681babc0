"""A store of many outcomes: `python -m bench.fill DATABASE_URL ROWS [DAYS]`.

The database itself copies a simulated campaign. Each copy has its own ids, phone number and times, spread over the
days before now. The copies are not in the journal, so the service must not have filled its analytical copy yet.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from app.interpret import interpret
from app.model import Delivery
from app.plum import simulator
from app.store import migrating
from app.store.database import Database
from app.store.query.conditions import is_any_of
from app.store.readings import save
from app.store.schema import outcomes

TEMPLATES = 3000
RARE = 3  # number of outcomes with a rare status
STEP = 50_000
# The SQL of each copy's own values, by engine: `n` is the copy's number, `at` its time in Unix seconds.
OWN = {
    "sqlite": {
        "id": "lower(hex(randomblob(16)))",
        "delivery_id": "printf('%012x', at * 1000) || lower(hex(randomblob(10)))",
        "moment": "strftime('%Y-%m-%d %H:%M:%S.000000', at, 'unixepoch')",
        "numbers": "WITH RECURSIVE numbers(n) AS (VALUES(:low) UNION ALL SELECT n + 1 FROM numbers WHERE n < :high)",
        "text": "CAST(n AS text)",
        "phone": "printf('+1617%07d', n * 7919 % 10000000)",
    },
    "postgresql": {
        "id": "gen_random_uuid()",
        "delivery_id": "CAST(lpad(to_hex(CAST(at AS bigint) * 1000), 12, '0')"
        " || substr(replace(CAST(gen_random_uuid() AS text), '-', ''), 1, 20) AS uuid)",
        "moment": "to_timestamp(at)",
        "numbers": "WITH numbers AS (SELECT n FROM generate_series(CAST(:low AS bigint), :high) AS n)",
        "text": "CAST(n AS text)",
        "phone": "'+1617' || lpad(CAST(n * 7919 % 10000000 AS text), 7, '0')",
    },
}


def new_store(url: str, rows: int, days: int = 365) -> None:
    """Create a store of the current schema with so many outcomes."""
    database = Database(url)
    migrating.migrate(database)
    _add_campaign(database)
    fill(url, rows, days)
    is_rare = is_any_of(outcomes.c.call_id, [str(rows * part // RARE + 7) for part in range(RARE)])
    with database.writing() as connection:
        connection.execute(sa.update(outcomes).where(is_rare).values(status="rejected"))
    database.close()


def _add_campaign(database: Database) -> None:
    """Store the templates of the copies: calls that last up to ten minutes."""
    target = simulator.Target.parse("http://127.0.0.1/result/KEY")
    readings = []
    for number, call in enumerate(simulator.campaign([target], TEMPLATES, seed=1)):
        post = call.posts[-1]
        delivery = Delivery(
            id=uuid4(), integration=f"integration-{number % 3}", received_at=datetime.now(UTC), body=post.body,
            content_type=post.headers.get("Content-Type"), batch=f"batch-{number % 30}",
            reference=f"reference-{number}" if number % 5 == 0 else None,
        )  # fmt: skip
        readings.append(interpret(delivery))
    for start in range(0, len(readings), 200):
        save(database, readings[start : start + 200])
    with database.writing() as connection:
        random = "abs(random()) % 601" if database.is_sqlite else "floor(random() * 601)"
        connection.execute(sa.text(f"UPDATE outcomes SET duration_seconds = {random} WHERE duration_seconds > 0"))
        connection.execute(sa.text("UPDATE outcomes SET status = 'failed' WHERE status = 'rejected'"))


def fill(url: str, rows: int, days: int = 365) -> None:
    """Add so many outcomes, each with one delivery."""
    engine = sa.create_engine(url)
    own = OWN[engine.dialect.name]
    meta = sa.MetaData()
    meta.reflect(engine, only=["outcomes", "deliveries"])
    with engine.connect() as connection:
        _templates(connection, meta)
        for low in range(0, rows, STEP):
            high = min(low + STEP, rows) - 1
            bounds = {"low": low, "high": high, "now": int(time.time()), "span": days * 86400, "rows": rows}
            connection.execute(sa.text("DELETE FROM copies"))
            connection.execute(sa.text(_COPIES.format(**own)), bounds)
            connection.execute(sa.text(_insert(meta.tables["outcomes"], _outcome(own))))
            connection.execute(sa.text(_insert(meta.tables["deliveries"], _delivery(own))))
            connection.commit()
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("ANALYZE"))
            connection.commit()


_COPIES = """
{numbers}, spread AS (SELECT n, :now - :span + n * :span / :rows AS at FROM numbers)
INSERT INTO copies
SELECT n, at, {id}, {delivery_id}, {moment}, n % (SELECT count(*) FROM template) FROM spread
"""


def _templates(connection: sa.Connection, meta: sa.MetaData) -> None:
    """Create temporary tables: the stored outcomes with one delivery, numbered, and the copies' own values."""
    uuid = "uuid" if connection.dialect.name == "postgresql" else "char(32)"
    moment = "timestamptz" if connection.dialect.name == "postgresql" else "text"
    connection.execute(
        sa.text(
            "CREATE TEMPORARY TABLE template AS SELECT row_number() OVER (ORDER BY id) - 1 AS number, id,"
            " first_delivery_id FROM outcomes WHERE deliveries = 1"
        )
    )
    connection.execute(
        sa.text(
            f"CREATE TEMPORARY TABLE copies (n bigint, at bigint, id {uuid}, delivery_id {uuid},"
            f" moment {moment}, number bigint)"
        )
    )
    for name in ("outcomes", "deliveries"):
        key = "id" if name == "outcomes" else "first_delivery_id"
        connection.execute(
            sa.text(
                f"CREATE TEMPORARY TABLE {name}_template AS SELECT template.number AS number, {name}.*"
                f" FROM template JOIN {name} ON {name}.id = template.{key}"
            )
        )
        connection.execute(sa.text(f"CREATE UNIQUE INDEX {name}_numbers ON {name}_template (number)"))
    connection.commit()


_REFERENCES = ("message_reference", "reference")  # almost unique among the calls that have one
_MOMENTS = ("queued_at", "start_at", "end_at", "last_attempt_at", "connected_at", "disconnected_at")


def _outcome(own: dict[str, str]) -> dict[str, str]:
    text, phone = own["text"], own["phone"]
    optional = dict.fromkeys(_MOMENTS, "moment") | {name: f"'{name}-' || {text}" for name in _REFERENCES}
    return (
        dict.fromkeys(("ended_at", "received_at", "updated_at"), "moment")
        | {"id": "copies.id", "first_delivery_id": "delivery_id", "body_sha256": "NULL"}
        | {"call_id": text, "phone_number": phone, "phone_number_raw": phone}
        | {name: f"CASE WHEN same.{name} IS NULL THEN NULL ELSE {value} END" for name, value in optional.items()}
    )


def _delivery(own: dict[str, str]) -> dict[str, str]:
    return {"id": "delivery_id", "outcome_id": "copies.id", "received_at": "moment"}


def _insert(table: sa.Table, own: dict[str, str]) -> str:
    columns = ", ".join(column.name for column in table.c)
    values = ", ".join(own.get(column.name, f"same.{column.name}") for column in table.c)
    template = f"{table.name}_template"
    return f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM copies JOIN {template} AS same USING (number)"


if __name__ == "__main__":
    new_store(sys.argv[1], int(sys.argv[2]), *(int(days) for days in sys.argv[3:]))
