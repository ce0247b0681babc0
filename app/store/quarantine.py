"""Quarantined deliveries, which could not be parsed, by their reason; they have an index of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from app.store.database import Database
from app.store.schema import deliveries, is_quarantined


def count_by_reason(database: Database, since: datetime) -> dict[str, int]:
    """Count quarantined deliveries received since `since`, the most frequent reason first."""
    reason, count = deliveries.c.reason, func.count()
    statement = select(reason, count).where(is_quarantined, deliveries.c.received_at >= since)
    with database.reading() as connection:
        rows = connection.execute(statement.group_by(reason).order_by(count.desc(), reason)).all()
    return {row[0]: row[1] for row in rows}


def newest(database: Database, reason: str, limit: int) -> list[dict[str, Any]]:
    """Return some deliveries quarantined for this reason, the newest first."""
    own = deliveries.c
    statement = (
        select(own.id, own.integration, own.received_at, own.size, own.content_type)
        .where(is_quarantined, own.reason == reason)
        .order_by(own.received_at.desc(), own.id.desc())
        .limit(limit)
    )
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(statement).mappings()]


def count_among(database: Database, ids: Sequence[UUID]) -> int:
    """Count those of these deliveries that are quarantined now."""
    statement = select(func.count()).select_from(deliveries).where(deliveries.c.id.in_(ids), is_quarantined)
    with database.reading() as connection:
        return connection.execute(statement).scalar_one()
