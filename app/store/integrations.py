"""Integrations and their keys. Only the SHA-256 of a key is stored: its 128 random bits need no slow hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, case, func, insert, literal, null, select, update

from app.errors import Disabled, Exists, NotFound
from app.model import Integration, KnownKey, Network, Product, hashed, networks
from app.store.database import Database
from app.store.failures import unless_exists
from app.store.schema import integration_keys, integrations
from app.store.types import UtcDateTime


def add_integration(database: Database, name: str, product: Product | None, now: datetime) -> str:
    """Create an integration and return its key, which cannot be shown again. Raises `Exists`."""
    taken = f"an integration named {name} is there already; for a new key: integration rotate {name}"
    values = {"name": name, "product": product and product.value, "created_at": now}
    with database.writing() as connection:
        with unless_exists(taken):
            connection.execute(insert(integrations).values(values))
        key = secrets.token_urlsafe(16)
        connection.execute(insert(integration_keys).values(key_hash=hashed(key), integration=name, created_at=now))
    return key


def rotate_integration(
    database: Database, name: str, grace: timedelta, now: datetime, unless_since: datetime | None = None
) -> tuple[Integration, str]:
    """Create a new key and return it; the old ones stay valid until the grace period ends.

    Raises `NotFound`, `Disabled`, and `Exists` if another key was created after `unless_since`.
    """
    with database.writing() as connection:
        is_named = integrations.c.name == name
        connection.execute(update(integrations).where(is_named).values(product=integrations.c.product))  # locks
        row = connection.execute(select(integrations).where(is_named)).first()
        if row is None:
            raise _unknown(name)
        if row.disabled_at:
            raise Disabled(f"{name} is disabled, so its new URL would be dead; first: integration enable {name}")
        newest = select(func.max(integration_keys.c.created_at)).where(integration_keys.c.integration == name)
        if unless_since and (made_at := connection.execute(newest).scalar_one()) > unless_since:
            raise Exists(f"{name} was given a new address at {made_at:%H:%M:%S} UTC; see: integration list")
        ends = now + grace
        connection.execute(
            update(integration_keys)
            .where(integration_keys.c.integration == name)
            .where(integration_keys.c.expires_at.is_(None) | (integration_keys.c.expires_at > ends))
            .values(expires_at=ends)
        )
        key = secrets.token_urlsafe(16)
        connection.execute(insert(integration_keys).values(key_hash=hashed(key), integration=name, created_at=now))
    return _integration(row, row.script), key


def disable_integration(database: Database, name: str, now: datetime) -> None:
    """Disable an integration: its URLs answer 404 from now on; what it sent stays. If it is disabled already, it
    keeps that time. Raises `NotFound`."""
    _set(database, name, disabled_at=func.coalesce(integrations.c.disabled_at, literal(now, UtcDateTime)))


def enable_integration(database: Database, name: str) -> None:
    """Enable an integration: its unexpired URLs are valid again. Raises `NotFound`."""
    _set(database, name, disabled_at=None)


def set_script(database: Database, name: str, script: str | None) -> None:
    """Set the script that the integration's calls get from now on; None for the default. Raises `NotFound`."""
    digest = None if script is None else hashlib.sha256(script.encode()).digest()
    _set(database, name, script=script, script_sha256=digest)


def get_script(database: Database, name: str) -> str | None:
    """Return the script that the integration's calls get; None if it is the default. Raises `NotFound`."""
    with database.reading() as connection:
        row = connection.execute(select(integrations.c.script).where(integrations.c.name == name)).first()
    if row is None:
        raise _unknown(name)
    script: str | None = row.script
    return script


def set_allowed_from(database: Database, name: str, allowed: Sequence[Network]) -> None:
    """Restrict the networks that may post with the integration's keys; an empty list allows all. Raises
    `NotFound`."""
    _set(database, name, allowed_from=",".join(map(str, allowed)) or None)


def set_password(database: Database, name: str, *, wanted: bool) -> str | None:
    """Set a new password and return it, or remove the password. Posts must send it with the integration's name as the
    user name; it cannot be shown again.

    Raises `NotFound`.
    """
    password = secrets.token_urlsafe(16) if wanted else None
    _set(database, name, password_hash=None if password is None else hashed(f"{name}:{password}"))
    return password


def _set(database: Database, name: str, **values: object) -> None:
    with database.writing() as connection:
        statement = update(integrations).where(integrations.c.name == name).values(values)
        if connection.execute(statement).rowcount == 0:
            raise _unknown(name)


def _unknown(name: str) -> NotFound:
    return NotFound(f"no integration is named {name}; see: integration list")


def list_integrations(database: Database) -> list[dict[str, object]]:
    columns = [column for column in integrations.c if not column.name.startswith(("script", "password"))]
    script = case((integrations.c.script_sha256.is_(None), "default"), else_="own").label("script")
    password = case((integrations.c.password_hash.is_(None), "none"), else_="needed").label("password")
    with database.reading() as connection:
        rows = connection.execute(select(*columns, script, password).order_by(integrations.c.name)).mappings()
        return [dict(row) | {"product": row["product"] or "auto"} for row in rows]


def integrations_by_name(database: Database) -> dict[str, Integration]:
    """Return all integrations by name, including disabled ones."""
    with database.reading() as connection:
        return {row.name: _integration(row, row.script) for row in connection.execute(select(integrations))}


class ActiveKeys:
    """Reads all valid keys. Repeated calls read each script only once, however many integrations there are."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._scripts: dict[bytes, str] = {}  # by digest, from the last call

    def look(self, now: datetime) -> dict[str, KnownKey]:
        """Return the keys that are valid now, by the hex of their hash."""
        known = self._scripts
        with self._database.reading() as connection:
            rows = connection.execute(_select_valid(now, known)).all()
        known = known | {row.script_sha256: row.script for row in rows if row.script is not None}
        self._scripts = {row.script_sha256: known[row.script_sha256] for row in rows if row.script_sha256}
        return {
            row.key_hash.hex(): KnownKey(_integration(row, known.get(row.script_sha256)), row.expires_at)
            for row in rows
        }


def _select_valid(now: datetime, known: Collection[bytes]) -> Select[Any]:
    """Select the valid keys, with null instead of scripts whose digests are in `known`."""
    script = case((integrations.c.script_sha256.in_(known), null()), else_=integrations.c.script).label("script")
    return (
        select(
            integration_keys.c.key_hash,
            integration_keys.c.expires_at,
            integrations.c.name,
            integrations.c.product,
            integrations.c.script_sha256,
            integrations.c.allowed_from,
            integrations.c.password_hash,
            script,
        )
        .select_from(integration_keys.join(integrations))
        .where(integrations.c.disabled_at.is_(None))
        .where(integration_keys.c.expires_at.is_(None) | (integration_keys.c.expires_at > now))
    )


def _integration(row: Any, script: str | None) -> Integration:
    product = Product(row.product) if row.product else None
    return Integration(row.name, product, script, networks(row.allowed_from or ""), row.password_hash)
