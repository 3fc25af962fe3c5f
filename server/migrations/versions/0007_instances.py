"""Instances: which very process of a worker has a run, and which data folder a worker's name is kept in."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("instance", sa.String(), nullable=False, server_default=""))
    op.add_column("worker", sa.Column("instance", sa.String(), nullable=False, server_default=""))
    op.add_column("worker", sa.Column("home", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("worker", "home")
    op.drop_column("worker", "instance")
    op.drop_column("run", "instance")
