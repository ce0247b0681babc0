"""When each token was last used, and who saw, took out or changed what."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, JsonText, UtcDateTime

revision = "0005"
down_revision = "0003"
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


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_column("tokens", "last_used_at")
