"""The reference receivers, with the same server and workers as the service.

`noop` is a view that does nothing. `plain` is the usual receiver with Flask and SQLAlchemy: each request is one
transaction that upserts the call and stores its bytes. `raw` does less than any useful receiver: one `INSERT` of the
bytes with the bare driver, without parsing.
"""

import os
import sqlite3
from datetime import UTC, datetime

import psycopg
import sqlalchemy as sa
from flask import Flask, request
from sqlalchemy.dialects import postgresql, sqlite

TABLE = "CREATE TABLE IF NOT EXISTS received (id {} PRIMARY KEY, body {}, content_type text, at text)"
FIELDS = (
    "phone_number",
    "message_reference",
    "result",
    "callee_type",
    "attempts",
    "last_attempt_timestamp",
    "duration",
)

metadata = sa.MetaData()
calls = sa.Table(
    "plain_calls",
    metadata,
    sa.Column("call_id", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text) for name in FIELDS),
    sa.Column("updated_at", sa.DateTime),
)
bodies = sa.Table(
    "plain_bodies",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("call_id", sa.Text, index=True),
    sa.Column("received_at", sa.DateTime),
    sa.Column("body", sa.LargeBinary),
)


def make_noop() -> Flask:
    app = Flask("noop", static_folder=None)
    app.add_url_rule("/result/<key>", view_func=lambda key: "completed", methods=["POST"], endpoint="receive")
    return app


def make_plain() -> Flask:
    app = Flask("plain", static_folder=None)
    url = os.environ["BENCH_DATABASE_URL"]
    connect_args = {"timeout": 30} if url.startswith("sqlite") else {}
    engine = sa.create_engine(url, connect_args=connect_args, pool_size=32, max_overflow=64)
    if url.startswith("sqlite"):
        sa.event.listen(engine, "connect", lambda connection, _: _durable(connection))
    try:
        metadata.create_all(engine)
    except sa.exc.DBAPIError:  # the other worker has just created them
        metadata.create_all(engine)
    upsert = (sqlite if url.startswith("sqlite") else postgresql).insert

    def receive(key: str) -> str:
        body, now = request.get_data(cache=True), datetime.now(UTC)
        values = {name: request.form.get(name) for name in FIELDS} | {"updated_at": now}
        call_id = request.form["call_id"]
        statement = upsert(calls).values(call_id=call_id, **values)
        with engine.begin() as connection:
            connection.execute(sa.insert(bodies), {"call_id": call_id, "received_at": now, "body": body})
            connection.execute(statement.on_conflict_do_update(index_elements=["call_id"], set_=values))
        return "completed"

    app.add_url_rule("/result/<key>", view_func=receive, methods=["POST"])
    return app


def _durable(connection):
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def make_raw() -> Flask:
    app = Flask("raw", static_folder=None)
    url = os.environ["BENCH_DATABASE_URL"]
    insert = _sqlite(url) if url.startswith("sqlite") else _postgresql(url)

    def receive(key: str) -> str:
        insert((request.get_data(), request.content_type, key))
        return "completed"

    app.add_url_rule("/result/<key>", view_func=receive, methods=["POST"])
    return app


def _sqlite(url):
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(TABLE.format("integer", "blob"))

    def insert(values):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO received (body, content_type, at) VALUES (?, ?, ?)", values)
        connection.execute("COMMIT")

    return insert


def _postgresql(url):
    from queue import LifoQueue

    free = LifoQueue()
    url = url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        connection.execute(TABLE.format("serial", "bytea"))

    def insert(values):
        connection = free.get() if not free.empty() else psycopg.connect(url, autocommit=True)
        connection.execute("INSERT INTO received (body, content_type, at) VALUES (%s, %s, %s)", values)
        free.put(connection)

    return insert


app = {"noop": make_noop, "plain": make_plain, "raw": make_raw}[os.environ["BENCH_APP"]]()
