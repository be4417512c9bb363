"""The share of the champion's traffic that a candidate is shown."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("routing_states", sa.Column("mirror_percent", sa.Double(), nullable=False, server_default="0"))
