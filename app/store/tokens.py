"""Analysts' API tokens. Only their hashes are stored; a token is shown once."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import func, insert, literal, or_, select, update

from app.errors import Exists, NotFound
from app.model import Scope, Token, hashed
from app.store.database import Database
from app.store.failures import unless_exists
from app.store.schema import tokens
from app.store.types import UtcDateTime

USES_EVERY = timedelta(minutes=1)  # between two updates of last_used_at


def add_token(database: Database, name: str, scope: Scope, now: datetime) -> str:
    """Create a token and return it; it cannot be shown again. Raises `Exists`."""
    token = secrets.token_urlsafe(32)
    taken = (
        f"a token named {name} is there already (a revoked one keeps its name for the audit log); "
        "choose another name, or see: token list"
    )
    values = {"name": name, "token_hash": hashed(token), "scope": scope.value, "created_at": now}
    with database.writing() as connection, unless_exists(taken):
        connection.execute(insert(tokens).values(values))
    return token


def rotate_token(database: Database, name: str, now: datetime, unless_since: datetime) -> tuple[Scope, str]:
    """Replace the token's secret; return its scope and the secret, which cannot be shown again.

    Raises `NotFound`, also if the token is revoked, and `Exists` if its secret was created after `unless_since`.
    """
    secret = secrets.token_urlsafe(32)
    with database.writing() as connection:
        is_valid = (tokens.c.name == name) & tokens.c.revoked_at.is_(None)
        connection.execute(update(tokens).where(is_valid).values(scope=tokens.c.scope))  # locks
        row = connection.execute(select(tokens.c.scope, tokens.c.created_at).where(is_valid)).first()
        if row is None:
            raise NotFound(f"no valid token is named {name}; see: token list")
        if row.created_at > unless_since:
            raise Exists(f"{name} was made at {row.created_at:%H:%M:%S} UTC; see: token list")
        values = {"token_hash": hashed(secret), "created_at": now, "last_used_at": None}
        connection.execute(update(tokens).where(is_valid).values(values))
    return Scope(row.scope), secret


def list_tokens(database: Database) -> list[dict[str, object]]:
    columns = [column for column in tokens.c if column.name != "token_hash"]
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(*columns).order_by(tokens.c.name)).mappings()]


def revoke_token(database: Database, name: str, now: datetime) -> None:
    """Revoke the token; a revoked one keeps its time. Raises `NotFound`."""
    revoked_at = func.coalesce(tokens.c.revoked_at, literal(now, UtcDateTime))
    with database.writing() as connection:
        statement = update(tokens).where(tokens.c.name == name).values(revoked_at=revoked_at)
        if connection.execute(statement).rowcount == 0:
            raise NotFound(f"no token is named {name}; see: token list")


def active_tokens(database: Database) -> dict[str, Token]:
    """Return all valid tokens, by the hex of their hash."""
    statement = select(tokens.c.token_hash, tokens.c.name, tokens.c.scope).where(tokens.c.revoked_at.is_(None))
    with database.reading() as connection:
        return {row.token_hash.hex(): Token(row.name, Scope(row.scope)) for row in connection.execute(statement)}


def note_use(database: Database, name: str, now: datetime) -> None:
    """Store when the token was last used; in each minute only the first worker to do so writes."""
    last = tokens.c.last_used_at
    is_old = or_(last.is_(None), last < now - USES_EVERY)
    with database.writing() as connection:
        connection.execute(update(tokens).where(tokens.c.name == name, is_old).values(last_used_at=now))
