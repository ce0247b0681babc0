"""Create integrations, tokens, deliveries and outcomes."""

import sqlalchemy as sa
from alembic import op

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "integrations",
        sa.Column("name", CodePointText, nullable=False),
        sa.Column("product", Word),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("disabled_at", UtcDateTime),
        sa.PrimaryKeyConstraint("name", name="pk_integrations"),
    )
    op.create_table(
        "integration_keys",
        sa.Column("key_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
        sa.PrimaryKeyConstraint("key_hash", name="pk_integration_keys"),
        sa.ForeignKeyConstraint(["integration"], ["integrations.name"], name="fk_integration_keys_integration"),
    )
    op.create_table(
        "tokens",
        sa.Column("name", CodePointText, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scope", Word, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("revoked_at", UtcDateTime),
        sa.PrimaryKeyConstraint("name", name="pk_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_tokens_token_hash"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        sa.Column("declared", Word),
        sa.Column("product", Word),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.Column("via", Word, nullable=False),
        sa.Column("verdict", Word, nullable=False),
        sa.Column("reason", Word),
        sa.Column("outcome_id", sa.Uuid),
        sa.Column("reference", CodePointText),
        sa.Column("batch", CodePointText),
        sa.Column("content_type", CodePointText),
        sa.Column("headers", JsonText, nullable=False),
        sa.Column("query", CodePointText, nullable=False),
        sa.Column("remote_addr", CodePointText),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("problems", JsonText, nullable=False),
        sa.Column("normaliser", Word, nullable=False),
        sa.Column("digest", CodePointText),
        sa.Column("cut_short", sa.Boolean, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("integration", CodePointText, nullable=False),
        sa.Column("product", Word, nullable=False),
        sa.Column("identity", Word, nullable=False),
        sa.Column("call_id", CodePointText),
        sa.Column("message_reference", CodePointText),
        sa.Column("reference", CodePointText),
        sa.Column("batch", CodePointText),
        sa.Column("phone_number", CodePointText),
        sa.Column("phone_number_raw", CodePointText),
        sa.Column("status", Word, nullable=False),
        sa.Column("status_raw", CodePointText),
        sa.Column("callee_type", Word),
        sa.Column("callee_type_raw", CodePointText),
        sa.Column("disposition", Word, nullable=False),
        sa.Column("answered_by", Word),
        sa.Column("attempts", sa.Integer),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("reattempt_wait_seconds", sa.Integer),
        sa.Column("duration_seconds", sa.Integer),
        sa.Column("queued_at", UtcDateTime),
        sa.Column("start_at", UtcDateTime),
        sa.Column("end_at", UtcDateTime),
        sa.Column("last_attempt_at", UtcDateTime),
        sa.Column("connected_at", UtcDateTime),
        sa.Column("disconnected_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime, nullable=False),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("events", JsonText, nullable=False),
        sa.Column("extra", JsonText, nullable=False),
        sa.Column("problems", JsonText, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("possible_duplicate", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("normaliser", Word, nullable=False),
        sa.Column("digest", CodePointText, nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
    )
    op.create_index("ix_deliveries_outcome_id", "deliveries", ["outcome_id"])
    op.create_index("ix_deliveries_newest", "deliveries", [sa.text("received_at DESC"), "id"])
    op.create_index("ix_outcomes_newest", "outcomes", [sa.text("ended_at DESC"), "id"])
    has_body = sa.text("body_sha256 IS NOT NULL")
    op.create_index(
        "ix_outcomes_same_body",
        "outcomes",
        ["integration", "body_sha256"],
        sqlite_where=has_body,
        postgresql_where=has_body,
    )


def downgrade() -> None:
    for table in ("outcomes", "deliveries", "tokens", "integration_keys", "integrations"):
        op.drop_table(table)
