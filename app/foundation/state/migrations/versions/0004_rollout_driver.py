"""Who moves a rollout on, and at most one rollout of a model in flight, whoever starts two at once."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("rollouts", sa.Column("driver", sa.String(), nullable=False, server_default="replay"))
    unfinished = sa.text("phase NOT IN ('Healthy', 'Aborted')")
    op.create_index(
        "one_rollout_in_flight", "rollouts", ["model"], unique=True,
        sqlite_where=unfinished, postgresql_where=unfinished,
    )
