"""Experiments with invented but plausible numbers, put through the real store as a trainer would report them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from datetime import timedelta

from nat_core.answers import Answers
from nat_core.comparison import wilson_interval
from nat_core.events import AnyEvent, EvaluationEvent, LogEvent, MetricsEvent, SampleEvent, StateEvent
from nat_core.records import ExperimentRecord, RunRecord
from nat_core.spec import ExperimentSpec, FullBudget, RpcBudget, TruncateBudget, UrsBudget, demo_experiment
from server.ingest import Batch, store_batches
from server.life import RunLife
from server.rows import run_row
from server.store import Store
from server.tables import utc_now

HARDWARE = {"device": "cpu", "cpu": "EPYC 9474F", "cores": 2, "threads": 1, "torch": "2.11.0"}
# selector: share kept, end accuracy, forward+backward s, memory GiB
SHAPES = {
    "full": (1.0, 0.842, 0.92, 1.31),
    "rpc": (0.5, 0.839, 0.52, 0.86),
    "urs": (0.5, 0.836, 0.88, 1.18),
    "truncate": (0.5, 0.781, 0.50, 0.84),
}


def small_spec(name: str = "Half the tokens?", seeds: Sequence[int] = (0,), steps: int = 6) -> ExperimentSpec:
    """Full, rpc and truncate on the demo, a few steps long."""
    demo = demo_experiment(steps=steps, seeds=tuple(seeds))
    return demo.model_copy(
        update={"name": name, "budgets": [FullBudget(), RpcBudget(fraction=0.5), TruncateBudget(fraction=0.5)]}
    )


def wide_spec(name: str, seeds: Sequence[int], steps: int = 60) -> ExperimentSpec:
    """The demo's four budgets."""
    budgets = [FullBudget(), RpcBudget(fraction=0.5), UrsBudget(fraction=0.5), TruncateBudget(fraction=0.5)]
    return demo_experiment(steps=steps, seeds=tuple(seeds)).model_copy(update={"name": name, "budgets": budgets})


def run_events(
    run: RunRecord, selector: str, upto: int, evaluate_every: int = 10, sets: Sequence[str] = ()
) -> Iterator[AnyEvent]:
    """What a trainer of this run reports until step `upto`; named sets are harder the later they stand."""
    rng = random.Random(f"{run.seed}")  # the seed's noise is shared by its cells, as in real runs
    own = random.Random(f"{selector}-{run.seed}")
    share, end, seconds, memory = SHAPES[selector]
    seq = iter(range(1, 10**6))
    drift = rng.gauss(0, 0.01)

    def accuracy(step: int) -> float:
        return 0.47 + (end - 0.47) * (1 - math.exp(-step / 18)) / (1 - math.exp(-60 / 18)) + drift + own.gauss(0, 0.004)

    yield StateEvent(seq=next(seq), time=0, step=0, phase="started", hardware=HARDWARE)
    yield LogEvent(seq=next(seq), time=0, step=0, message=f"training on {selector}, seed {run.seed}")
    for step in range(upto + 1):
        if step > 0:
            yield MetricsEvent(
                seq=next(seq), time=step, step=step, values=_values(step, accuracy, own, share, seconds, memory)
            )
        if step % evaluate_every == 0 or step == run.steps:
            value = min(1.0, max(0.0, accuracy(step)))
            yield EvaluationEvent(
                seq=next(seq), time=step, step=step, seconds=1.2, **answers(value, own).model_dump(),
                sets={name: answers(value / (place + 2), own) for place, name in enumerate(sets)},
            )  # fmt: skip
            yield from (sample_event(next(seq), step, selector, own) for _ in range(4))


def answers(accuracy: float, rng: random.Random) -> Answers:
    """Answers of that accuracy to 128 questions, four each."""
    low, high = wilson_interval(accuracy, 512)
    correct = [4 if rng.random() < accuracy else rng.randint(0, 3) for _ in range(128)]
    return Answers(
        accuracy=accuracy, accuracy_low=low, accuracy_high=high, accuracy_greedy=min(1.0, accuracy + 0.06),
        pass_at_k=min(1.0, accuracy + 0.1), majority_at_k=min(1.0, accuracy + 0.05),
        num_prompts=128, num_samples=4, correct=correct, mean_length=61 + rng.random(),
    )  # fmt: skip


def _values(step: int, accuracy, rng: random.Random, share: float, seconds: float, memory: float) -> dict[str, float]:  # type: ignore[no-untyped-def]
    generated = 7800 + rng.randint(-300, 300)
    live = generated * (0.8 - 0.003 * step)
    selected = live * min(1.0, share * rng.uniform(0.97, 1.03))
    update = seconds * rng.uniform(0.95, 1.05) + 0.12
    return {
        "reward": accuracy(step) + rng.gauss(0, 0.02),
        "reward_std": 0.35 - 0.003 * step + rng.gauss(0, 0.01),
        "frac_reward_zero_std": 0.15 + 0.005 * step,
        "tokens/generated": float(generated),
        "tokens/live": float(int(live)),
        "tokens/selected": float(int(selected)),
        "tokens/trunk": float(int(selected * 1.2)),
        "tokens/padded": float(int(selected * 1.3)),
        "flops/update": 5e6 * selected,
        "budget/fraction": selected / live,
        "budget/max_weight": 1 / share * 2.2 if share < 1 else 1.0,
        "budget/effective_sample_size": share**0.4 * rng.uniform(0.97, 1.0),
        "timing_s/step": update + 1.4 + rng.gauss(0, 0.05),
        "timing_s/rollout": 1.4,
        "timing_s/update": update,
        "timing_s/forward_backward": update - 0.12,
        "perf/peak_memory_gib": memory * (1 - 0.1 * math.exp(-step)),
        "perf/tokens_per_s": generated / (update + 1.4),
        "loss": rng.gauss(0, 0.01),
        "grad_norm": 0.3 + abs(rng.gauss(0, 0.05)),
        "learning_rate": 1e-4,
        "entropy": 0.6 * math.exp(-step / 50),
        "clip_ratio": 0.0,
        "completions/mean_length": generated / 128,
        "completions/clipped_ratio": 0.02,
        "system/cpu_cores": 1.9 - 0.1 * math.sin(step) ** 2,
        "system/memory_gib": memory + 0.4,
        "system/host_cpu": 0.97 - 0.05 * math.sin(step) ** 2,
        "system/host_memory_gib": memory + 2.1,
    }  # fmt: skip


TEXT = "7 + 5 = 2 ; 2 * 3 = 6 ; 6 - 9 = 7 ;\n 7 + 4 = 1 ; 1 * 8 = 8 ; 8 + 6 = 4\n#### 4"


def sample_event(seq: int, step: int, selector: str, rng: random.Random) -> SampleEvent:
    """A completion of the demo task, with the selection that the budget would draw."""
    tokens = [part for part in TEXT.replace(" ", "\0 ").split("\0") if part]
    length = len(tokens)
    if selector == "rpc":
        probs = [0.8 - 0.6 * (t + 0.5) / length for t in range(length)]
        cut = rng.randint(length // 4, length - 3)
        keep = [t < cut for t in range(length)]
    elif selector == "urs":
        probs, keep = [0.5] * length, [rng.random() < 0.5 for _ in range(length)]
    else:
        kept = length if selector == "full" else (length + 1) // 2
        probs, keep = [1.0] * length, [t < kept for t in range(length)]
    return SampleEvent(
        seq=seq, time=step, step=step, prompt="7 + 5 * 3 - 9 + 4 * 8 + 6 =", tokens=tokens, keep=keep,
        inclusion_prob=probs, logprobs=[-abs(rng.gauss(0, 0.4)) for _ in tokens],
        reward=1.0, advantage=0.87, answer="4",
    )  # fmt: skip


def launch(store: Store, spec: ExperimentSpec) -> ExperimentRecord:
    """The experiment with its runs queued, and nobody told."""
    return store.create_experiment(spec, announce=lambda run_id: None)


def train(
    store: Store, run: RunRecord, upto: int | None = None, evaluate_every: int = 10, outcome: str = "succeeded"
) -> None:
    """Take a run to step `upto`, and to its end when that is not given."""
    life = RunLife(store)
    store.register_worker("cpu-box-1", "cpu-box-1", HARDWARE)
    given = life.claim(run.id, "cpu-box-1")
    attempt, spec = given.attempt, given.spec
    last = run.steps if upto is None else upto
    events = list(run_events(run, spec.budget.selector, last, evaluate_every, list(spec.evaluation.sets)))
    store_batches(store, [Batch(run.id, attempt, events)])
    life.heartbeat(run.id, attempt, last)
    if upto is None:
        life.finish(run.id, attempt, outcome)  # type: ignore[arg-type]
    with store.change() as (session, _):
        row = run_row(session, run.id)
        row.started_at = (row.finished_at or utc_now()) - timedelta(seconds=2.1 * last)


def finished_experiment(store: Store, spec: ExperimentSpec, evaluate_every: int = 10) -> ExperimentRecord:
    """Every run trained to its end."""
    experiment = launch(store, spec)
    for run in experiment.runs:
        train(store, run, evaluate_every=evaluate_every)
    return store.get_experiment(experiment.id)
