"""Stores of both engines, empty and already full."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from app.interpret import interpret
from app.model import Delivery, Reading
from app.plum import simulator
from app.store import migrating
from app.store.database import Database
from app.store.readings import save
from tests.conftest import copied

FULL_CALLS = 150


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
    which = "full" if fullness == "full" else "migrated"
    with copied(engine_name, which, tmp_path, request) as url:
        database = Database(url)
        yield database
        database.close()


@pytest.fixture
def crowded(cluster, migrated_postgresql) -> Iterator[Database]:
    """PostgreSQL, where several write at once."""
    with cluster.lent(like=migrated_postgresql) as url:
        database = Database(url)
        yield database
        database.close()


def _fill(url: str) -> None:
    database = Database(url)
    migrating.migrate(database)
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
