"""Outcomes: what a run that has ended comes to, summed up once."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outcome",
        sa.Column("run_id", sa.String(), primary_key=True),
        sa.Column("sums", sa.JSON(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("outcome")
