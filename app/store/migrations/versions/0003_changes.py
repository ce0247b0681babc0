"""Create the journal: which outcomes each transaction created or changed."""

import sqlalchemy as sa
from alembic import op

from app.store.types import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "changes",
        sa.Column("id", number, autoincrement=False, nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("outcome_ids", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )


def downgrade() -> None:
    op.drop_table("changes")
