"""Indexes by time become ascending: both engines append to their end most cheaply, and read them backwards."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENTS = {"deliveries": "received_at", "outcomes": "ended_at", "audit": "at"}


def upgrade() -> None:
    for table, moment in MOMENTS.items():
        op.drop_index(f"ix_{table}_newest", table)
        op.create_index(f"ix_{table}_newest", table, [moment, sa.text("id DESC")])


def downgrade() -> None:
    for table, moment in MOMENTS.items():
        op.drop_index(f"ix_{table}_newest", table)
        op.create_index(f"ix_{table}_newest", table, [sa.text(f"{moment} DESC"), "id"])
