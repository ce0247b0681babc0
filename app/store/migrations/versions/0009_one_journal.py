"""Remove tables derived from outcomes, which the analytical copy replaces; index the fields that identify a call."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, UtcDateTime, Word

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

IDENTIFYING = ("phone_number", "call_id", "message_reference", "reference")


def upgrade() -> None:
    for table in ("traces", "rollups", "rollup_kinds", "rollup_dirty", "rollup_state", "drift_deliveries", "drift"):
        op.drop_table(table)
    op.execute("DELETE FROM positions WHERE name = 'drift'")
    op.drop_column("changes", "quarters")
    for field in IDENTIFYING:
        present = sa.text(f"{field} IS NOT NULL")
        op.create_index(
            f"ix_outcomes_{field}",
            "outcomes",
            [field, "ended_at", sa.text("id DESC")],
            sqlite_where=present,
            postgresql_where=present,
        )


def downgrade() -> None:
    """Create the tables again; the older program fills them by itself."""
    for field in IDENTIFYING:
        op.drop_index(f"ix_outcomes_{field}", "outcomes")
    for earlier in ("0004_rollups", "0006_traces"):
        import_module(f"app.store.migrations.versions.{earlier}").upgrade()
    words = ("kind", "product")
    texts = ("integration", "field", "value")
    op.create_table(
        "drift",
        sa.Column("id", sa.Uuid, nullable=False),
        *(sa.Column(name, Word, nullable=False) for name in words),
        *(sa.Column(name, CodePointText, nullable=False) for name in texts),
        sa.Column("count", sa.BigInteger, nullable=False),
        *(sa.Column(name, UtcDateTime, nullable=False) for name in ("first_at", "last_at")),
        sa.Column("delivery_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drift"),
    )
    op.create_table(
        "drift_deliveries",
        sa.Column("delivery_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_drift_deliveries"),
    )
