"""Launching once: the caller's key of a launch, and a digest of what it asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiment", sa.Column("launch_key", sa.String()))
    op.add_column("experiment", sa.Column("launch_digest", sa.String()))
    op.create_index("ix_experiment_launch_key", "experiment", ["launch_key"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_experiment_launch_key", "experiment")
    op.drop_column("experiment", "launch_digest")
    op.drop_column("experiment", "launch_key")
