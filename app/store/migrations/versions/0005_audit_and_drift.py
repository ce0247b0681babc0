"""Add the last use of each token, the audit log (who saw, exported or changed what), and drift in deliveries."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("last_used_at", UtcDateTime))
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("who", CodePointText, nullable=False),
        sa.Column("what", CodePointText, nullable=False),
        sa.Column("asked", JsonText, nullable=False),
        sa.Column("record_id", sa.Uuid),
        sa.Column("remote_addr", CodePointText),
        sa.Column("status", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_newest", "audit", [sa.text("at DESC"), "id"])
    op.create_table(
        "drift",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", Word, nullable=False),
        sa.Column("product", Word, nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        sa.Column("field", CodePointText, nullable=False),
        sa.Column("value", CodePointText, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", UtcDateTime, nullable=False),
        sa.Column("last_at", UtcDateTime, nullable=False),
        sa.Column("delivery_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drift"),
    )
    op.create_table(
        "drift_deliveries",
        sa.Column("delivery_id", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_drift_deliveries"),
    )
    op.create_table(
        "positions",
        sa.Column("name", Word, nullable=False),
        sa.Column("position", JsonText, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_positions"),
    )


def downgrade() -> None:
    for table in ("positions", "drift_deliveries", "drift"):
        op.drop_table(table)
    op.drop_table("audit")
    op.drop_column("tokens", "last_used_at")
