"""Stores of both engines, empty and already full."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.interpret import interpret
from app.model import Delivery, Reading
from app.plum import simulator
from app.store import schema_version
from app.store.database import Database
from app.store.readings import save

FULL_CALLS = 1500


@pytest.fixture(scope="session")
def full_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("full") / "outcomes.db"
    _fill(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def full_postgresql(cluster) -> str:
    url = cluster.create()
    _fill(url)
    return url


@pytest.fixture(params=["empty", "full"])
def fullness(request) -> str:
    return request.param


@pytest.fixture
def database(engine_name, fullness, tmp_path, request) -> Iterator[Database]:
    """A store of each engine, empty and with the results of a misbehaving campaign of other integrations."""
    if engine_name == "sqlite":
        file = tmp_path / "outcomes.db"
        if fullness == "full":
            shutil.copy(request.getfixturevalue("full_sqlite"), file)
        url = f"sqlite:///{file}"
    else:
        cluster = request.getfixturevalue("cluster")
        url = _copy(cluster, request.getfixturevalue("full_postgresql")) if fullness == "full" else cluster.create()
    database = Database(url)
    schema_version.migrate(database)
    yield database
    database.close()


def _copy(cluster, url: str) -> str:
    name = f"copy_{uuid4().hex}"
    with psycopg.connect(cluster.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{url.rsplit("/", 1)[1]}"')
    return cluster.url(name)


def _fill(url: str) -> None:
    database = Database(url)
    schema_version.migrate(database)
    readings = list(_campaign())
    for start in range(0, len(readings), 100):
        save(database, readings[start : start + 100])
    database.close()


def _campaign() -> Iterator[Reading]:
    target = simulator.Target.parse("http://127.0.0.1/result/KEY")
    for call in simulator.campaign([target], FULL_CALLS, seed=3, misbehave=True):
        for post in call.posts:
            yield interpret(
                Delivery(
                    id=uuid4(),
                    integration="others",
                    received_at=datetime(2026, 1, 5, tzinfo=UTC),
                    body=post.body,
                    content_type=post.headers.get("Content-Type"),
                )
            )
