"""Stores of both engines, each with an analytical copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.analytics.engine import Engine
from app.masking import masks
from app.query_router import QueryRouter
from app.store.database import Database
from tests.store.conftest import crowded, database, full_postgresql, full_sqlite, fullness  # noqa: F401

# For a test that takes seconds: what it writes is then among other rows, and an empty store would show no more.
on_a_full_store = pytest.mark.parametrize("fullness", ["full"], indirect=True)


def opened(store: Database, directory: Path, memory: str = "200MB") -> Engine:
    return Engine(store, directory / "analytics.duckdb", memory, masks())


@pytest.fixture
def engine(database: Database, tmp_path: Path) -> Iterator[Engine]:  # noqa: F811
    made = opened(database, tmp_path)
    yield made
    made.close()


@pytest.fixture
def router(database: Database, engine: Engine) -> QueryRouter:  # noqa: F811
    return QueryRouter(database, database, engine)
