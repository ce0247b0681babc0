"""Create expected calls, the metadata that their results take from them, and the numbers not to be dialled."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outcomes", sa.Column("metadata", JsonText, nullable=False, server_default="{}"))
    op.create_table(
        "expected_calls",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        *(sa.Column(name, CodePointText) for name in ("reference", "call_id", "phone_number", "batch")),
        sa.Column("ends_at", UtcDateTime),
        sa.Column("metadata", JsonText, nullable=False),
        sa.Column("state", Word, nullable=False),
        sa.Column("registered_at", UtcDateTime, nullable=False),
        *(sa.Column(name, UtcDateTime) for name in ("queued_at", "polled_at")),
        sa.Column("outcome_id", sa.Uuid),
        sa.Column("due_at", UtcDateTime),
        sa.Column("polls", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_expected_calls"),
    )
    op.create_index("ix_expected_calls_newest", "expected_calls", ["registered_at", sa.text("id DESC")])
    for name in ("reference", "call_id", "batch", "outcome_id", "due_at"):
        present = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"ix_expected_calls_{name}",
            "expected_calls",
            [name],
            sqlite_where=present,
            postgresql_where=present,
        )
    without = sa.text("reference IS NULL AND phone_number IS NOT NULL")
    op.create_index(
        "ix_expected_calls_number",
        "expected_calls",
        ["phone_number"],
        sqlite_where=without,
        postgresql_where=without,
    )
    missing = sa.text("state = 'missing'")
    op.create_index(
        "ix_expected_calls_missing", "expected_calls", ["id"], sqlite_where=missing, postgresql_where=missing
    )
    op.create_table(
        "do_not_call",
        sa.Column("phone_number", CodePointText, nullable=False),
        sa.Column("added_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("phone_number", name="pk_do_not_call"),
    )


def downgrade() -> None:
    op.drop_table("do_not_call")
    op.drop_table("expected_calls")
    op.drop_column("outcomes", "metadata")
