"""What must not be pruned or erased."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, UtcDateTime, Word

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("kind", Word, nullable=False),
        sa.Column("subject", CodePointText, nullable=False),
        sa.Column("reason", CodePointText, nullable=False),
        sa.Column("made_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_holds"),
    )


def downgrade() -> None:
    op.drop_table("holds")
