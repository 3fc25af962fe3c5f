"""The seven tables. JSON columns hold what pydantic models in `nat_core` wrote; times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Index
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from nat_core.records import RunState


class UtcDateTime(TypeDecorator[datetime]):
    """SQLite keeps no time zone; what goes in and comes out here is UTC and says so."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


class ExperimentRow(SQLModel, table=True):
    __tablename__ = "experiment"

    id: str = Field(primary_key=True)
    name: str
    tags: list[str] = Field(default=[], sa_type=JSON)
    notes: str = ""
    archived: bool = Field(default=False, index=True)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    spec: dict[str, Any] = Field(sa_type=JSON)
    launch_key: str | None = Field(default=None, index=True, unique=True)
    launch_digest: str | None = None


class RunRow(SQLModel, table=True):
    __tablename__ = "run"

    id: str = Field(primary_key=True)
    experiment_id: str = Field(foreign_key="experiment.id", index=True)
    cell: int
    label: str
    seed: int
    state: str = Field(default=RunState.QUEUED.value, index=True)
    priority: int = 0
    reason: str | None = None
    message: str | None = None
    attempt: int = 0
    restarts: int = 0
    resumed_step: int = 0
    step: int = 0
    steps: int
    worker_id: str | None = None
    instance: str = ""  # the very process of that worker which has the newest attempt
    hardware: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    claimed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    heartbeat_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    latest: dict[str, float | None] = Field(default={}, sa_type=JSON)
    tags: list[str] = Field(default=[], sa_type=JSON)
    notes: str = ""
    archived: bool = False
    spec: dict[str, Any] = Field(sa_type=JSON)


class AttemptRow(SQLModel, table=True):
    """One worker's try at a run, and up to which step what it reported still counts."""

    __tablename__ = "attempt"

    run_id: str = Field(primary_key=True, foreign_key="run.id")
    number: int = Field(primary_key=True)
    worker_id: str
    claimed_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    resumed_step: int | None = None  # null until its trainer started
    folder: list[int] = Field(default=[], sa_type=JSON)  # the earlier attempts that wrote in the same run folder
    kept_to: int | None = None  # later steps are superseded by another attempt; null: none are
    reason: str | None = None
    message: str | None = None


class WorkerRow(SQLModel, table=True):
    __tablename__ = "worker"

    id: str = Field(primary_key=True)
    instance: str = ""  # its process, as it registered last
    home: str = ""  # the data folder that keeps its name: hostnames are not unique
    hostname: str
    labels: list[str] = Field(default=[], sa_type=JSON)
    hardware: dict[str, Any] = Field(default={}, sa_type=JSON)
    registered_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)
    seen_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime)


class EventRow(SQLModel, table=True):
    """One line of a run's `events.jsonl`; the key makes storing it twice a no-op."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_run_type_step", "run_id", "type", "step"),)

    run_id: str = Field(primary_key=True, foreign_key="run.id")
    attempt: int = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    type: str
    step: int
    time: float
    body: str


class BucketRow(SQLModel, table=True):
    """A metric's lowest, highest and last value within `size` steps from `start` on, of one attempt.

    Written and read by `server.rollup`. No foreign key: rows are many, and go with their run's.
    """

    __tablename__ = "bucket"
    __table_args__ = {"sqlite_with_rowid": False}

    run_id: str = Field(primary_key=True)
    attempt: int = Field(primary_key=True)
    key: str = Field(primary_key=True)
    size: int = Field(primary_key=True)
    start: int = Field(primary_key=True)
    lo: float | None = None
    lo_step: int
    hi: float | None = None
    hi_step: int
    last: float | None = None
    last_step: int


class OutcomeRow(SQLModel, table=True):
    """What a run that has ended comes to. Written and read by `server.outcomes`; it goes with its run."""

    __tablename__ = "outcome"

    run_id: str = Field(primary_key=True)
    sums: dict[str, Any] = Field(sa_type=JSON)
