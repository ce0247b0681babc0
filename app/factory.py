"""The wiring, which one reads first: each part is made here, and no other module knows them all.

callback → web.result → intake.Writer → record → interpret → store.readings.save → "completed"
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask

from app.config import Settings, from_environment
from app.intake.writer import Record, Writer
from app.interpret import interpret
from app.model import Delivery, Receipt
from app.store import readings
from app.store.database import Database
from app.store.integrations import integration_of_key
from app.store.tokens import scope_of_token
from app.web import api, errors, ops, result
from app.web.auth import Keyring
from app.web.parts import Parts, now


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application. Raises `ConfigError` for settings that it cannot work with."""
    settings = settings or from_environment()
    database = Database(settings.database_url)
    keyring = Keyring(
        integration=lambda key: integration_of_key(database, key, now()),
        scope=lambda token: scope_of_token(database, token),
    )
    writer = Writer(recorder(database, settings))
    return _flask(Parts(settings, database, keyring, writer))


def recorder(database: Database, settings: Settings) -> Record:
    """`record`, the one way into the store, whichever way a delivery came."""

    def record(deliveries: Sequence[Delivery]) -> list[Receipt]:
        return readings.save(database, [interpret(delivery, settings.default_region) for delivery in deliveries])

    return record


def _flask(parts: Parts) -> Flask:
    app = Flask("app", static_folder=None)
    app.extensions["plum"] = parts
    app.json.sort_keys = False  # type: ignore[attr-defined]  # records keep the contract's order
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # a redirect fails Plum's probe
    app.url_map.converters["anything"] = result.Anything
    faces = {"receiver": result.blueprint, "analyst": api.blueprint, "metrics": ops.scrape}
    for blueprint in [ops.health, *(faces[role] for role in sorted(parts.settings.roles))]:
        app.register_blueprint(blueprint)
    errors.register(app)
    return app
