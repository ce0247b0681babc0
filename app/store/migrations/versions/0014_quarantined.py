"""Index quarantined deliveries by their reason."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    which = sa.text("verdict = 'quarantined'")
    columns = ["reason", "received_at", "id"]
    op.create_index("ix_deliveries_quarantined", "deliveries", columns, sqlite_where=which, postgresql_where=which)


def downgrade() -> None:
    op.drop_index("ix_deliveries_quarantined", "deliveries")
