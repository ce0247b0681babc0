"""Outcomes store the id of their first delivery, so that only later deliveries need an index by outcome."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FIRST = "SELECT min(id) FROM deliveries WHERE deliveries.outcome_id = outcomes.id"
_FIRST_ON_POSTGRESQL = "SELECT id FROM deliveries WHERE deliveries.outcome_id = outcomes.id ORDER BY id LIMIT 1"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("later", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("outcomes", sa.Column("first_delivery_id", sa.Uuid))
    first = _FIRST_ON_POSTGRESQL if op.get_context().dialect.name == "postgresql" else _FIRST
    op.execute(f"UPDATE outcomes SET first_delivery_id = ({first})")  # noqa: S608
    op.execute(
        "UPDATE deliveries SET later = true WHERE outcome_id IS NOT NULL"
        " AND id NOT IN (SELECT first_delivery_id FROM outcomes WHERE first_delivery_id IS NOT NULL)"
    )
    op.drop_index("ix_deliveries_outcome_id", "deliveries")
    later = sa.text("later")
    op.create_index("ix_deliveries_later", "deliveries", ["outcome_id"], sqlite_where=later, postgresql_where=later)


def downgrade() -> None:
    op.drop_index("ix_deliveries_later", "deliveries")
    op.create_index("ix_deliveries_outcome_id", "deliveries", ["outcome_id"])
    op.drop_column("outcomes", "first_delivery_id")
    op.drop_column("deliveries", "later")
