"""Integrations and their keys. Only a key's SHA-256 is stored: 128 random bits need no slow hash."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from app.errors import Disabled, Exists, NotFound
from app.model import Integration, KnownKey, Product, hashed
from app.store.database import Database
from app.store.schema import integration_keys, integrations


def add_integration(database: Database, name: str, product: Product | None, now: datetime) -> str:
    """A new sender; its key, shown this once. Raises `Exists`."""
    with database.writing() as connection:
        if connection.execute(select(integrations.c.name).where(integrations.c.name == name)).first():
            raise Exists(f"an integration named {name} is there already; for a new key: integration rotate {name}")
        connection.execute(insert(integrations).values(name=name, product=product and product.value, created_at=now))
        key = secrets.token_urlsafe(16)
        connection.execute(insert(integration_keys).values(key_hash=hashed(key), integration=name, created_at=now))
    return key


def rotate_integration(database: Database, name: str, grace: timedelta, now: datetime) -> tuple[Integration, str]:
    """A new key; the old ones hold until the grace is over. Raises `NotFound`, `Disabled`."""
    with database.writing() as connection:
        row = connection.execute(select(integrations).where(integrations.c.name == name)).first()
        if row is None:
            raise NotFound(f"no integration is named {name}; see: integration list")
        if row.disabled_at:
            raise Disabled(f"{name} is disabled, so its new URL would be dead; first: integration enable {name}")
        ends = now + grace
        connection.execute(
            update(integration_keys)
            .where(integration_keys.c.integration == name)
            .where(integration_keys.c.expires_at.is_(None) | (integration_keys.c.expires_at > ends))
            .values(expires_at=ends)
        )
        key = secrets.token_urlsafe(16)
        connection.execute(insert(integration_keys).values(key_hash=hashed(key), integration=name, created_at=now))
    return _integration(row), key


def disable_integration(database: Database, name: str, now: datetime) -> None:
    """Its URLs answer 404 from now on; what it sent stays. Raises `NotFound`."""
    _set_disabled_at(database, name, now)


def enable_integration(database: Database, name: str) -> None:
    """Its URLs that have not expired open again. Raises `NotFound`."""
    _set_disabled_at(database, name, None)


def _set_disabled_at(database: Database, name: str, moment: datetime | None) -> None:
    with database.writing() as connection:
        statement = update(integrations).where(integrations.c.name == name).values(disabled_at=moment)
        if connection.execute(statement).rowcount == 0:
            raise NotFound(f"no integration is named {name}; see: integration list")


def list_integrations(database: Database) -> list[dict[str, object]]:
    with database.reading() as connection:
        rows = connection.execute(select(integrations).order_by(integrations.c.name)).mappings()
        return [dict(row) | {"product": row["product"] or "auto"} for row in rows]


def integrations_by_name(database: Database) -> dict[str, Integration]:
    """All of them, disabled ones too."""
    with database.reading() as connection:
        return {row.name: _integration(row) for row in connection.execute(select(integrations))}


def active_keys(database: Database, now: datetime) -> dict[str, KnownKey]:
    """All keys that open something now, by the hex of their hash."""
    statement = (
        select(
            integration_keys.c.key_hash, integration_keys.c.expires_at, integrations.c.name, integrations.c.product
        )
        .select_from(integration_keys.join(integrations))
        .where(integrations.c.disabled_at.is_(None))
        .where(integration_keys.c.expires_at.is_(None) | (integration_keys.c.expires_at > now))
    )
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    return {row.key_hash.hex(): KnownKey(_integration(row), row.expires_at) for row in rows}


def _integration(row: Any) -> Integration:
    return Integration(row.name, Product(row.product) if row.product else None)
