"""Attempts: who tried a run, from which step, and up to where what it reported counts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("restarts", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("resumed_step", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("claimed_at", sa.DateTime()))
    op.execute("UPDATE run SET claimed_at = started_at")
    op.create_table(
        "attempt",
        sa.Column("run_id", sa.String(), sa.ForeignKey("run.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("resumed_step", sa.Integer()),
        sa.Column("folder", sa.JSON(), nullable=False),
        sa.Column("kept_to", sa.Integer()),
        sa.Column("reason", sa.String()),
        sa.Column("message", sa.String()),
    )
    # Until now only the newest attempt of a run counted, and each began at the start.
    op.execute(
        "INSERT INTO attempt (run_id, number, worker_id, claimed_at, ended_at, resumed_step, folder) "
        "SELECT id, attempt, worker_id, started_at, finished_at, 0, '[]' FROM run WHERE attempt >= 1"
    )


def downgrade() -> None:
    op.drop_table("attempt")
    op.drop_column("run", "claimed_at")
    op.drop_column("run", "resumed_step")
    op.drop_column("run", "restarts")
