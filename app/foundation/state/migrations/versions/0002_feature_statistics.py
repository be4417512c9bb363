"""Statistics of feature views, one row for each snapshot of a view's table that was looked at."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "feature_statistics",
        sa.Column("table_name", sa.String(), primary_key=True, nullable=False),
        sa.Column("snapshot_id", sa.BigInteger(), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
