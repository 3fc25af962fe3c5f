"""Buckets: of every 16, 64 and 512 steps each metric's lowest, highest and last value."""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SIZES = (16, 64, 512)


def upgrade() -> None:
    bucket = op.create_table(
        "bucket",
        sa.Column("run_id", sa.String(), primary_key=True),
        sa.Column("attempt", sa.Integer(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("size", sa.Integer(), primary_key=True),
        sa.Column("start", sa.Integer(), primary_key=True),
        sa.Column("lo", sa.Float()),
        sa.Column("lo_step", sa.Integer(), nullable=False),
        sa.Column("hi", sa.Float()),
        sa.Column("hi_step", sa.Integer(), nullable=False),
        sa.Column("last", sa.Float()),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    told = connection.exec_driver_sql("SELECT DISTINCT run_id, attempt FROM event WHERE type = 'metrics'").all()
    for run_id, attempt in told:
        points = [
            (step, key, value)
            for step, body in connection.exec_driver_sql(
                "SELECT step, body FROM event WHERE run_id = ? AND attempt = ? AND type = 'metrics' ORDER BY step, seq",
                (run_id, attempt),
            )
            for key, value in json.loads(body)["values"].items()
        ]
        rows = [{"run_id": run_id, "attempt": attempt, **row} for size in SIZES for row in _buckets(points, size)]
        if rows:
            connection.execute(bucket.insert(), rows)


def _buckets(points: list[tuple[int, str, float | None]], size: int) -> Iterator[dict[str, Any]]:
    def place(point: tuple[int, str, float | None]) -> tuple[str, int]:
        return point[1], point[0] // size * size

    for (key, start), group in groupby(sorted(points, key=place), key=place):
        found = [(value, step) for step, _, value in group]
        known = [(value, step) for value, step in found if value is not None]
        lo, hi = (min(known), max(known)) if known else ((None, found[-1][1]), (None, found[-1][1]))
        yield {
            "key": key, "size": size, "start": start, "lo": lo[0], "lo_step": lo[1], "hi": hi[0], "hi_step": hi[1],
            "last": found[-1][0], "last_step": found[-1][1],
        }  # fmt: skip


def downgrade() -> None:
    op.drop_table("bucket")
