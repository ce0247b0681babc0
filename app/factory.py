"""The wiring, which one reads first: each part is made here, and no other module knows them all.

callback → web.result → intake.Writer → interpret → store.readings.save → "completed"
                              └ store away → intake.Spool → "completed" … housekeeping → record
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flask import Flask

from app.config import Settings, from_environment
from app.errors import StoreUnavailable
from app.housekeeping import Housekeeping, is_running
from app.intake.breaker import HANG_SECONDS, Breaker, within
from app.intake.known_keys import KnownKeys
from app.intake.spool import Spool
from app.intake.writer import Interpret, Record, Writer
from app.interpret import interpret, interpret_all
from app.model import Delivery, Integration, Reading
from app.roller import Roller
from app.store import audit, changes, drift, readings, tokens
from app.store.database import Database, questions_database, writable
from app.store.integrations import active_keys, integration_of_key
from app.store.reprocess import reprocess_one
from app.web import api, document, downloads, errors, live, novel, ops, totals
from app.web.auth import Keyring
from app.web.feed import Feed
from app.web.parts import Parts, now
from app.web.result import ResultFace


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Raises `ConfigError` for settings that it cannot work with."""
    settings = settings or from_environment()
    database = Database(settings.database_url)
    # Analysts have connections of their own, so that no question keeps a delivery waiting.
    answers = questions_database(settings)
    spool = Spool(settings.spool_dir)
    breaker = Breaker(probe=lambda: writable(database), forget=database.close)
    keyring = Keyring(
        integration=_key_finder(database, breaker, KnownKeys(settings.spool_dir)),
        token=lambda secret: breaker.call(lambda: tokens.find_token(database, secret)),
        note_use=lambda name: within(HANG_SECONDS, lambda: tokens.note_use(database, name, now())),
    )
    writer = Writer(group_reader(settings), partial(readings.save, database), breaker, spool)
    return _flask(
        Parts(
            settings,
            database,
            answers,
            keyring,
            writer,
            spool,
            is_kept=partial(is_running, settings.spool_dir),
            feed=Feed(Database(settings.database_url)),  # not of a replica, which knows no transactions under way
            reprocess=partial(reprocess_one, database, reader(settings)),
            audit=lambda entry: within(HANG_SECONDS, lambda: audit.write(database, entry)),
        )
    )


def create_housekeeping(settings: Settings) -> Housekeeping:
    """What runs beside the web workers."""
    database = Database(settings.database_url)
    return Housekeeping(
        spool=Spool(settings.spool_dir),
        record=recorder(database, settings),
        known_keys=KnownKeys(settings.spool_dir),
        active_keys=lambda: active_keys(database, now()),
        forget=database.close,
        prune_changes=lambda: changes.prune(database, now() - changes.KEPT),
        drift=partial(drift.advance, database, reader(settings)),
        count_drift=partial(drift.count_items, database),
        roll_up=Roller(Database(settings.database_url), now).run,
    )


def reader(settings: Settings) -> Callable[[Delivery], Reading]:
    """`interpret` as this installation's settings want it."""
    return partial(interpret, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def group_reader(settings: Settings) -> Interpret:
    """The same for many deliveries at once."""
    return partial(interpret_all, region=settings.default_region, max_body_bytes=settings.max_body_bytes)


def recorder(database: Database, settings: Settings) -> Record:
    """`record`, the one way into the store for deliveries that wait for nobody: spooled and imported ones."""
    read, save = group_reader(settings), partial(readings.save, database)
    return lambda deliveries: save(read(deliveries))


def _key_finder(database: Database, breaker: Breaker, known_keys: KnownKeys) -> Callable[[str], Integration | None]:
    def find(key: str) -> Integration | None:
        try:
            found = breaker.call(lambda: integration_of_key(database, key, now()))
        except StoreUnavailable:
            remembered = known_keys.find(key, now())
            if remembered is None:
                raise
            return remembered
        if found and key not in known_keys:
            known_keys.replace(active_keys(database, now()))
        return found

    return find


def _flask(parts: Parts) -> Flask:
    app = Flask("app", static_folder=None)
    app.extensions["plum"] = parts
    app.json.sort_keys = False  # type: ignore[attr-defined]  # records keep the contract's order
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.register_blueprint(ops.health)
    if "metrics" in parts.settings.roles:
        app.register_blueprint(ops.scrape)
    if "analyst" in parts.settings.roles:
        document.publish(app, api.blueprint, totals.blueprint, downloads.blueprint, live.blueprint, novel.blueprint)
    if "receiver" in parts.settings.roles:
        app.wsgi_app = ResultFace(app.wsgi_app, parts)  # type: ignore[method-assign]
    errors.register(app)
    return app
