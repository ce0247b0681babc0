"""What the service is measured against, under the same server and workers.

`noop` is a view that does nothing. `plain` is the usual receiver: one transaction a request, into one table, without
understanding anything; it is what a careful afternoon gives.
"""

import os
import sqlite3

import psycopg
from flask import Flask, request

TABLE = "CREATE TABLE IF NOT EXISTS received (id {} PRIMARY KEY, body {}, content_type text, at text)"


def make_noop() -> Flask:
    app = Flask("noop", static_folder=None)
    app.add_url_rule("/result/<key>", view_func=lambda key: "completed", methods=["POST"], endpoint="receive")
    return app


def make_plain() -> Flask:
    app = Flask("plain", static_folder=None)
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


app = make_noop() if os.environ["BENCH_APP"] == "noop" else make_plain()
