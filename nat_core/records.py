"""What the server records of experiments, runs and workers, as its API tells it.

The server stores and serves these, the client and the pages read them. The states a run goes
through, and the only legal ways between them, are the table `TRANSITIONS`; what people may ask of a
run in each of them is the table `ACTIONS`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nat_core.spec import ExperimentSpec, RunSpec

T = TypeVar("T")

ALIVE_S = 60.0
"""A worker that was heard of within so long is there: it tells of itself six times as often."""


def is_alive(seen_at: datetime, now: datetime) -> bool:
    """Whether a worker that was heard of at a moment is there now, by the server's clock.

    A moment long after now is one from before the clock was set back: a living worker tells of itself again soon.
    """
    return abs((now - seen_at).total_seconds()) <= ALIVE_S


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]

    @property
    def is_active(self) -> bool:
        """Whether a worker has the run."""
        return self in ACTIVE


ACTIVE = (RunState.RUNNING, RunState.PAUSING, RunState.STOPPING)

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.STOPPED, RunState.FAILED}),
    RunState.RUNNING: frozenset(
        {
            RunState.PAUSING,
            RunState.STOPPING,
            RunState.STOPPED,
            RunState.SUCCEEDED,
            RunState.FAILED,
            RunState.QUEUED,
        }
    ),
    RunState.PAUSING: frozenset({RunState.PAUSED, RunState.STOPPING, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.PAUSED: frozenset({RunState.QUEUED, RunState.STOPPED, RunState.FAILED}),
    RunState.STOPPING: frozenset({RunState.STOPPED, RunState.SUCCEEDED, RunState.FAILED}),
    RunState.STOPPED: frozenset(),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
}

Action = Literal["pause", "resume", "stop", "kill"]

ACTIONS: dict[Action, dict[RunState, RunState]] = {
    "pause": {RunState.QUEUED: RunState.PAUSED, RunState.RUNNING: RunState.PAUSING},
    "resume": {RunState.PAUSED: RunState.QUEUED},
    "stop": {
        RunState.QUEUED: RunState.STOPPED,
        RunState.PAUSED: RunState.STOPPED,
        RunState.RUNNING: RunState.STOPPING,
        RunState.PAUSING: RunState.STOPPING,
    },
    "kill": {
        RunState.QUEUED: RunState.FAILED,
        RunState.PAUSED: RunState.FAILED,
        RunState.RUNNING: RunState.STOPPING,
        RunState.PAUSING: RunState.STOPPING,
        RunState.STOPPING: RunState.STOPPING,
    },
}
"""What people may do to a run in each state, and what it becomes by that. What is not here is refused."""


def actions_of(state: RunState) -> list[Action]:
    """The actions that a run in this state takes."""
    return [action for action, ways in ACTIONS.items() if state in ways]


class Record(BaseModel):
    """Base of what the API returns; unknown keys are ignored so that an older client reads a newer server."""

    model_config = ConfigDict(extra="ignore")


class RunRecord(Record):
    """One run as the API tells it. Times are UTC."""

    id: str
    experiment_id: str
    priority: int = Field(0, description="Of the runs that wait, those with a higher one start first.")
    queue_position: int | None = Field(None, description="How many runs start before this one, and itself.")
    label: str = Field(description="The budget in words, the same for every seed of a cell: `rpc · linear · ½`.")
    cell: int = Field(description="Position of the budget in the experiment's `budgets`.")
    seed: int
    state: RunState
    reason: str | None = Field(None, description="Machine-readable reason of a failure: `oom`, `nan_loss`, `data`, …")
    message: str | None = Field(None, description="The reason in one sentence.")
    attempt: int = Field(description="How often a worker claimed it; the fencing token of worker calls.")
    restarts: int = Field(0, description="How often it was lost with its worker or trainer and queued again.")
    resumed_step: int = Field(0, description="The step its newest attempt went on from; 0 is from the start.")
    step: int = Field(description="Steps finished.")
    steps: int = Field(description="Steps planned.")
    worker_id: str | None = None
    hardware: dict[str, Any] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    eta_s: float | None = Field(None, description="Seconds left at the pace so far; null when not running.")
    latest: dict[str, float | None] = Field(default={}, description="Newest value of every metric.")
    tags: list[str] = []
    notes: str = ""
    archived: bool = False
    actions: list[Action] = Field(default=[], description="What may be asked of it now, each a POST sub-path.")


class AttemptRecord(Record):
    """One worker's try at a run. `reason` and `message` say why it ended before the run did."""

    number: int
    worker_id: str
    claimed_at: datetime
    ended_at: datetime | None = None
    resumed_step: int | None = Field(None, description="The step it went on from; null until its trainer started.")
    reason: str | None = None
    message: str | None = None


class RunDetail(RunRecord):
    spec: RunSpec
    attempts: list[AttemptRecord] = []
    waits_for: str | None = Field(None, description="Why a queued run has not begun, in one sentence.")


class ExperimentRecord(Record):
    """One experiment as the API tells it, with its runs."""

    id: str
    name: str
    state: Literal["queued", "running", "paused", "succeeded", "stopped", "failed"] = Field(
        description="`running` while any run is, `paused` if the others wait for somebody; else the worst of the ends."
    )
    tags: list[str]
    notes: str
    archived: bool
    created_at: datetime
    spec: ExperimentSpec
    runs: list[RunRecord]


class WorkerRecord(Record):
    id: str
    hostname: str
    labels: list[str] = []
    hardware: dict[str, Any]
    registered_at: datetime
    seen_at: datetime
    alive: bool = Field(True, description="Whether the server heard of it within the last minute, by its own clock.")
    run_id: str | None = None


class CheckpointRecord(Record):
    """A whole checkpoint in a run's folder."""

    name: str = Field(description="Its folder's name, and its address under the run.")
    step: int
    size_bytes: int
    files: list[str]
    written_at: datetime


class Page(Record, Generic[T]):
    """A page of a listing. `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


class MetricSeries(Record):
    """Values of one metric of one run, in order of x."""

    run_id: str
    key: str
    x: list[float]
    y: list[float | None]


class Problem(Record):
    """RFC 9457 problem details; `code` is what programs switch on."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, str]] = Field(default=[], description="Each `{pointer, detail}`.")


# --- plans, and disk space given back ---------------------------------------------------------------


class Assumed(Record):
    """What a plan takes for granted."""

    prompt_tokens: int = Field(description="Tokens of each prompt.")
    completion_tokens: int = Field(description="Mean tokens of a completion; they spread evenly by up to 3/4 of it.")


class Speed(Record):
    """How fast a worker did earlier runs of the same model."""

    flops_per_s: float = Field(description="Operations of forward and backward passes a second, over whole runs.")
    num_runs: int


class BudgetPlan(Record):
    """One budget's update step, as expected. Shares are of `full`, on the same completions."""

    budget: str = Field(description="The budget in words.")
    tokens_generated: int = Field(description="Completion tokens that a step samples.")
    tokens_selected: float = Field(description="Of those, trained on.")
    tokens_trunk: float = Field(description="Prompt and completion tokens that go through the layers.")
    flops: float = Field(description="Operations of forward and backward passes.")
    flops_share: float
    seconds: float | None = Field(None, description="Of forward and backward passes; null where the speed is unknown.")
    seconds_share: float | None = None
    num_microbatches: int
    largest_microbatch: float = Field(description="Tokens of a step's largest micro-batch, on average over steps.")
    memory_gib: dict[str, float] = Field(description="By part, on each device: weights, gradients, …")
    total_gib: float
    total_share: float
    fits: bool | None = Field(None, description="Whether that is within the room there is; null where it is unknown.")


class Room(Record):
    """A worker as an experiment meets it."""

    worker_id: str
    on_gpu: bool = Field(description="Whether the memory is a GPU's.")
    memory_gib: float | None = Field(description="Null where the worker did not tell.")
    refusal: str = Field("", description="Why the worker takes none of the experiment's runs; empty where it does.")


class ExperimentPlan(Record):
    """What an experiment would start, and what that is expected to cost."""

    num_runs: int
    cells: list[str] = Field(description="The budgets in words.")
    seeds: list[int]
    steps_total: int = Field(description="Steps of all runs together.")
    tokens_generated_total: float | None = Field(None, description="Completion tokens of all runs together.")
    tokens_selected_total: float | None = Field(None, description="Of those, trained on.")
    assumed: Assumed
    num_devices: int = Field(
        1, description="Devices that share a step: micro-batches, memory and seconds are of each, all else of all."
    )
    full: BudgetPlan | None = Field(None, description="The step that trains on every token.")
    budgets: list[BudgetPlan] = Field(default=[], description="In the order of the experiment's budgets.")
    room: Room | None = Field(None, description="The memory that the budgets must fit in.")
    speed: Speed | None = Field(None, description="What the seconds are reckoned with; null where nothing is known.")
    warnings: list[str] = Field(default=[], description="What will not go well, each in a sentence.")
    unknown: str | None = Field(None, description="Why no cost can be told, where that is so.")


class SweepReport(Record):
    """What went, or would go."""

    experiments: list[str]
    checkpoints: list[str] = Field(description="Runs whose checkpoints went.")
    folders: list[str] = Field(description="Folders of runs that were deleted.")
    folder_bytes: int = Field(description="What those folders and checkpoints held.")
    database_bytes: int = Field(description="What the database's file lost in size, or would lose.")
