"""Create legal holds, and add the networks and the password that restrict who may post with a key."""

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
    op.add_column("integrations", sa.Column("allowed_from", CodePointText))
    op.add_column("integrations", sa.Column("password_hash", sa.LargeBinary(32)))


def downgrade() -> None:
    op.drop_column("integrations", "password_hash")
    op.drop_column("integrations", "allowed_from")
    op.drop_table("holds")
