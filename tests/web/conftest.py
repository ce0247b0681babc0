"""Applications in the test's own process, with the process of their analytical copy as a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from flask import Flask

from app.analytics import process
from app.analytics.protocol import socket_of
from app.assembly import create_engine
from app.config import Settings
from app.factory import create_app
from app.store.database import Database


@contextmanager
def running(settings: Settings) -> Iterator[Flask]:
    stop = threading.Event()
    keep = partial(
        process.run,
        partial(create_engine, settings),
        socket_of(settings.analytics_path),
        Database(settings.database_url).address,
        stop,
    )
    thread = threading.Thread(target=keep)
    thread.start()
    app = create_app(settings)
    try:
        yield app
    finally:
        stop.set()
        thread.join()
        plum = app.extensions["plum"]
        for database in (plum.database, plum.answers, plum.beside):
            database.close()
