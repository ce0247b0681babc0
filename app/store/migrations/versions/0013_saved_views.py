"""Create the lists of calls that analysts save under a name."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saved_views",
        sa.Column("name", CodePointText, nullable=False),
        sa.Column("asked", CodePointText, nullable=False),
        sa.Column("made_by", CodePointText, nullable=False),
        sa.Column("made_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_saved_views"),
    )


def downgrade() -> None:
    op.drop_table("saved_views")
