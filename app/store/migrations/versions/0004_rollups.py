"""Create roll-ups: figures of the outcomes by quarters of an hour, and the quarters whose outcomes have changed."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("quarters", sa.LargeBinary))
    state = op.create_table(
        "rollup_state",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("seen_end", sa.BigInteger),
        sa.Column("seen_running", JsonText, nullable=False),
        sa.Column("filled_from", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_rollup_state"),
    )
    op.bulk_insert(state, [{"id": 1, "round": 0, "seen_running": []}])
    quarter = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "rollup_dirty",
        sa.Column("span", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("quarter", quarter, autoincrement=False, nullable=False),
        sa.Column("touched_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("span", "quarter", name="pk_rollup_dirty"),
    )
    op.create_table(
        "rollup_kinds",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        sa.Column("product", Word, nullable=False),
        sa.Column("status", Word, nullable=False),
        sa.Column("disposition", Word, nullable=False),
        sa.Column("callee_type", Word),
        sa.Column("answered_by", Word),
        sa.PrimaryKeyConstraint("id", name="pk_rollup_kinds"),
    )
    sums = ("count", "answered", "human", "known", "attempts", "attempted")
    packed = ("durations", "kinds", "batches", "kind_durations", "batch_durations")
    op.create_table(
        "rollups",
        sa.Column("span", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("quarter", quarter, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in packed),
        sa.PrimaryKeyConstraint("span", "quarter", name="pk_rollups"),
    )


def downgrade() -> None:
    for table in ("rollups", "rollup_kinds", "rollup_dirty", "rollup_state"):
        op.drop_table(table)
    op.drop_column("changes", "quarters")
