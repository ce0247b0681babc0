"""The wiring; read it first. Each part of the web application is created here, and only this module knows them all.

callback → web.result → intake.Writer → interpret → store.readings.save → "completed"
                              └ store away → intake.Spool → "completed" … housekeeping → record
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from flask import Flask

from app import assembly, counting, logs, metrics
from app.config import Settings, from_environment
from app.errors import StoreUnavailable
from app.housekeeping import heartbeat_age
from app.intake.breaker import HANG_SECONDS, Breaker, within
from app.intake.known_keys import KnownKeys
from app.intake.refused import Refused
from app.intake.spool import Spool
from app.intake.writer import Writer
from app.normalise import VERSION
from app.query_router import QueryRouter
from app.store import audit, schema_version, tokens
from app.store.database import Database, questions_database
from app.store.integrations import ActiveKeys
from app.store.reprocess import reprocess_one
from app.store.tokens import active_tokens
from app.web import aggregates, api, downloads, drift, errors, expected_calls, live, openapi, ops
from app.web.auth import Keyring, Secrets
from app.web.caching import Coalesced
from app.web.concurrency import ConcurrencyLimit
from app.web.feed import Feed
from app.web.pages import (
    attention,
    call,
    calls,
    demonstration,
    overview,
    search,
    setup,
    sign_in,
    site,
    views,
)
from app.web.parts import Parts, now
from app.web.readiness import Readiness
from app.web.result import PlumFace

# A worker's connections: for deliveries and their health check; for all other writes and live streams; for look-ups
# of keys and tokens. All others are for queries.
FOR_DELIVERIES, FOR_OTHER_WRITES, FOR_AUTHENTICATION = 2, 2, 1
RESERVED = FOR_DELIVERIES + FOR_OTHER_WRITES + FOR_AUTHENTICATION
HEALTH_SECONDS = 0.1  # between two health checks, however many clients ask
FOR_THE_COPY = 4  # concurrent queries of a worker to the analytical copy


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application. Raises `ConfigError`."""
    settings = settings or from_environment()
    logs.log_what_ends_threads()
    counting.begin()
    metrics.BUILD_INFO.labels(version("plum-outcomes"), VERSION).set(1)
    url = settings.database_url
    database = _watched("deliveries", Database(url, connections=FOR_DELIVERIES))
    # Queries have connections of their own, so that none keeps a delivery waiting.
    queries = settings.database_connections - RESERVED
    answers = _watched("questions", questions_database(settings, queries))
    # Never a replica, which takes no writes and does not know running transactions.
    beside = _watched("beside", Database(url, connections=FOR_OTHER_WRITES))
    spool = Spool(settings.spool_dir)
    rehearse = assembly.rehearsal(database, settings)
    breaker = Breaker(probe=rehearse, forget=database.close)
    known_keys = KnownKeys(settings.spool_dir)
    keyring = Keyring(
        look=_look_at_secrets(_watched("authentication", Database(url, connections=FOR_AUTHENTICATION))),
        remembered=known_keys.read,
        remember=known_keys.replace,
        note_use=lambda name: within(HANG_SECONDS, lambda: tokens.note_use(beside, name, now())),
    )
    heartbeat = partial(heartbeat_age, settings.spool_dir)
    readiness = Readiness((partial(schema_version.check, database), rehearse), spool, heartbeat)
    copy = assembly.remote(settings, database)
    router = QueryRouter(answers, beside, copy, ConcurrencyLimit(FOR_THE_COPY).slot)
    writer = Writer(assembly.group_reader(settings), assembly.saver(database), breaker, spool)
    return _flask(
        Parts(
            settings,
            database,
            answers,
            router,
            beside,
            keyring,
            writer,
            spool,
            Refused(settings.spool_dir),
            readiness=Coalesced(readiness.look, HEALTH_SECONDS),
            heartbeat=heartbeat,
            known_keys=known_keys.read,
            question_limit=ConcurrencyLimit(queries),
            feed=Feed(beside),
            missing=assembly.missing(settings, beside, router),
            read=assembly.reader(settings),
            reprocess=partial(reprocess_one, beside, assembly.reader(settings)),
            count_refused=lambda reason: metrics.REFUSED.labels(reason=reason).inc(),
            audit=lambda entry: within(HANG_SECONDS, lambda: audit.write(beside, entry)),
        )
    )


def _watched(pool: str, database: Database) -> Database:
    """Count the database's connections in metrics."""
    in_use = metrics.CONNECTIONS.labels(pool)
    in_use.set(0)
    metrics.MOST_CONNECTIONS.labels(pool).set(database.connections)
    database.watch(in_use.inc, in_use.dec)
    return database


def _look_at_secrets(database: Database) -> Callable[[], Secrets]:
    """Return the look-up of keys and tokens. Its own connections keep floods of wrong keys away from deliveries."""
    active_keys = ActiveKeys(database)

    def look() -> Secrets:
        return Secrets(active_keys.look(now()), active_tokens(database))

    def look_in_time() -> Secrets:
        try:
            return within(HANG_SECONDS, look)
        except StoreUnavailable:
            database.close()  # a connection may hang forever
            raise

    return look_in_time


def _flask(parts: Parts) -> Flask:
    app = Flask("app", static_folder=None)
    app.extensions["plum"] = parts
    app.json.sort_keys = False  # type: ignore[attr-defined]  # records keep the contract's order
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.register_blueprint(ops.health)
    if "metrics" in parts.settings.roles:
        app.register_blueprint(ops.scrape)
    if "analyst" in parts.settings.roles:
        asked = (api, expected_calls, aggregates, downloads, live, drift)
        openapi.publish(app, *(view.blueprint for view in asked))
        pages = (site, sign_in, overview, search, calls, call, views, attention, setup, demonstration)
        for page in pages:
            app.register_blueprint(page.blueprint)
    if "receiver" in parts.settings.roles:
        app.wsgi_app = PlumFace(app.wsgi_app, parts)  # type: ignore[method-assign]
    errors.register(app)
    return app
