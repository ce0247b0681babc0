"""PostgreSQL's indexes leave out the texts that are too long for them; until then it refused such results."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _make_again("length({}) <= 500")


def downgrade() -> None:
    _make_again("{} IS NOT NULL")


def _make_again(which: str) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for name in ("call_id", "message_reference"):
        op.drop_index(f"ix_outcomes_{name}", "outcomes")
        columns = [name, "ended_at", sa.text("id DESC")]
        op.create_index(f"ix_outcomes_{name}", "outcomes", columns, postgresql_where=sa.text(which.format(name)))
