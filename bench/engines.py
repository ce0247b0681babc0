"""Temporary stores of each engine for a benchmark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.conftest import new_cluster

ENGINES = ("sqlite", "postgresql")

NewStore = Callable[[], str]


def each_engine(engines: Sequence[str] = ENGINES) -> Iterator[tuple[str, NewStore, Path]]:
    """Yield each engine, a function that makes an empty store and returns its URL, and a temporary directory."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        os.chmod(directory, 0o755)
        if "sqlite" in engines:
            yield "sqlite", _sqlite(directory), directory
        if "postgresql" in engines:
            cluster = new_cluster(directory)
            try:
                yield "postgresql", cluster.create, directory
            finally:
                cluster.stop()


def _sqlite(directory: Path) -> NewStore:
    urls = (f"sqlite:///{directory / f'outcomes-{number}.db'}" for number in range(100))
    return lambda: next(urls)
