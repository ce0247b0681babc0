"""What an integration's calls hear."""

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


def downgrade() -> None:
    op.drop_column("integrations", "script_sha256")
    op.drop_column("integrations", "script")
