"""Add the script of each integration, and the call of each start."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("integrations", sa.Column("script", CodePointText))
    op.add_column("integrations", sa.Column("script_sha256", sa.LargeBinary(32)))
    op.add_column("deliveries", sa.Column("start_of", sa.Uuid))
    names_one = sa.text("start_of IS NOT NULL")
    op.create_index(
        "ix_deliveries_start_of", "deliveries", ["start_of"], sqlite_where=names_one, postgresql_where=names_one
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_start_of", "deliveries")
    op.drop_column("deliveries", "start_of")
    op.drop_column("integrations", "script_sha256")
    op.drop_column("integrations", "script")
