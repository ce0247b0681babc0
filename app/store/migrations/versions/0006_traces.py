"""Create traces, which locate values by quarters of an hour and days; roll-ups are rebuilt, since they use traces."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    quarter = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "traces",
        sa.Column("field", CodePointText, nullable=False),
        sa.Column("span", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("quarter", quarter, autoincrement=False, nullable=False),
        sa.Column("first", CodePointText, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("field", "span", "quarter", "first", name="pk_traces"),
    )
    for table in ("rollups", "rollup_dirty"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608
    op.execute("UPDATE rollup_state SET filled_from = NULL, seen_end = NULL, round = round + 1")


def downgrade() -> None:
    op.drop_table("traces")
