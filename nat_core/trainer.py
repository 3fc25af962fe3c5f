"""The training loop: prompts → completions → rewards → advantages → update, reported as it goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nat_core.checkpoint import Training
from nat_core.data import open_source
from nat_core.errors import DiskError, NatlabError
from nat_core.evaluate import Evaluator
from nat_core.events import EvaluationEvent, LogEvent, StateEvent
from nat_core.interrupt import Interrupt, Interrupted
from nat_core.model import load_policy
from nat_core.optim import build_optimizer, build_schedule
from nat_core.out_of_memory import is_out_of_memory
from nat_core.places import PromptLengths, check_places
from nat_core.preflight import check_several
from nat_core.probe import probe_gradient
from nat_core.ranks import ALONE, Ranks
from nat_core.reporter import Reporter, Sink, Unheard
from nat_core.reward import Scorer
from nat_core.rollout.engine import open_engine
from nat_core.rollout.step import Rollout, roll_out
from nat_core.saving import Saver
from nat_core.sharding import shard
from nat_core.spec import RunSpec
from nat_core.step_metrics import combined
from nat_core.streams import stream_seed
from nat_core.telling import tell_samples, tell_start, tell_step
from nat_core.token_selection import GradientMass
from nat_core.update import UpdateStats, update_on_batch

__all__ = ["TrainResult", "Trainer", "stream_seed"]

Outcome = Literal["succeeded", "stopped", "failed"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `reason` is an error code where it failed."""

    outcome: Outcome
    steps: int
    reason: str | None = None
    message: str | None = None


class Trainer:
    """Trains one spec in one folder."""

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        sink: Sink | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        resume: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """Args:
        sink: called with every event after it is on disk.
        should_stop: asked at every forward pass; when true the run throws away the step it is in, checkpoints and
            ends as `stopped`.
        resume: go on from the newest checkpoint in `run_dir`, where there is one.
        ranks: the processes that train this run together, each with a trainer of its own; the first one reports.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        self.spec, self.run_dir = spec, run_dir
        self.resume, self.ranks = resume, ranks
        self.reporter = Reporter(run_dir / "events.jsonl", sink) if ranks.leads else Unheard(ranks.rank)
        self.interrupt = Interrupt(should_stop, self.reporter.touch)
        self.evaluation_due = True
        self._closing = contextlib.ExitStack()

    def train(self) -> TrainResult:
        """Run to the end, to a stop or to a failure, each reported as the last event."""
        try:
            result = self.ranks.guard(self._train)
            self.reporter.emit(StateEvent, phase="ended", outcome=result.outcome)
        except NatlabError as error:
            result = self._failure(error.code, error.message)
        except Exception as error:
            if not is_out_of_memory(error):
                self._failure("error", f"{type(error).__name__}: {error}")
                raise
            # The update's passes have their own try and their own remedy: `StepMemoryError`.
            where = f"out of memory, not in the update's passes ({error})"
            result = self._failure("oom", f"{where}; lower rollout.max_batch_size or take a smaller model")
        finally:
            self._closing.close()
            self.reporter.close()
        return result

    def _train(self) -> TrainResult:
        self.set_up()
        self.interrupt.watch(self.policy)
        start = self._restore()
        try:
            tell_start(self.reporter, self.spec, self.policy, self.engine, (self.source, *self.evaluator.sources))
            if self.evaluation_due:
                self._evaluate()
                if start:
                    self.saver.save()
            for step in range(start, self.spec.steps):
                self.interrupt.check()
                self._step(step)
        except Interrupted:
            self.saver.save(self.evaluation_due)
            return TrainResult("stopped", self.reporter.step)
        return TrainResult("succeeded", self.spec.steps)

    def _step(self, step: int) -> None:
        with self.interrupt.step(self.generator, self.law_state):
            started = time.monotonic()
            rollout = self.roll_out(step)
            self.engine.rest()
            sampled = time.monotonic()
            probed = self._probe(rollout, step)
            ready = time.monotonic()
            stats = self._update(rollout)
        self.reporter.step = step + 1
        rollout_s = sampled - started
        tell_step(
            self.reporter,
            rollout,
            combined([entry.metrics for entry in stats]) | probed,
            rollout_s=rollout_s,
            step_s=rollout_s + time.monotonic() - ready,
        )
        self._after_step(rollout, stats)

    # --- set-up ---

    def set_up(self) -> None:
        """Load and build everything a step needs."""
        spec = self.spec
        if spec.resources.num_threads is not None:
            torch.set_num_threads(spec.resources.num_threads)
        check_several(spec, self.ranks.size)
        self.ranks.take_device(spec.resources)
        self.source = open_source(spec.data, spec.evaluation.num_prompts)
        between = self.interrupt.check_alone
        self.scorer = Scorer(spec.reward, self._warn, between)
        self.evaluator = Evaluator(spec, self.source, self.scorer, self._warn, between)
        self._closing.callback(self.evaluator.close)
        torch.manual_seed(spec.seed)
        self.policy = load_policy(spec.model, spec.resources)
        lengths = PromptLengths(self.policy, spec.rollout.max_prompt_length)
        for source in (self.source, *self.evaluator.sources):
            source.limit_prompts(lengths, lengths.limit)
        check_places(self.policy, lengths.longest, spec.rollout.max_completion_length)
        self.reference = self.policy.reference() if spec.objective.beta > 0 else None
        self.policy = shard(self.policy, self.ranks)
        self.reference = self.reference and shard(self.reference, self.ranks)
        self.optimizer = build_optimizer(self.policy.parameters, spec.optim)
        self.schedule = build_schedule(self.optimizer, spec.optim, spec.steps * spec.objective.num_iterations)
        self.generator = torch.Generator().manual_seed(stream_seed(spec.seed, "selection"))
        self.law_state = GradientMass()
        self.engine = open_engine(spec, self.policy, self.run_dir, self.interrupt.check, self._note)
        self._closing.callback(self.engine.close)

    def _restore(self) -> int:
        """Go on where the folder's newest checkpoint leaves off, where that is asked for. Returns the steps done."""
        training = Training(self.policy, self.optimizer, self.schedule, self.generator, self.law_state)
        self.saver = Saver(self.run_dir, self.spec.checkpoint, self.reporter, training)
        if self.resume:
            restored = self.saver.restore()
            self.reporter.step, self.evaluation_due = restored.step, restored.evaluation_due
        return self.reporter.step

    # --- one step ---

    def roll_out(self, step: int) -> Rollout:
        """Sample and score the completions of a step (0-based)."""
        examples = self.source.training_batch(self.spec.seed, step, self.spec.rollout.num_prompts)
        seed = stream_seed(self.spec.seed, "rollout", step)
        return roll_out(self.spec, self.policy, self.engine, self.scorer, examples, seed)

    def _update(self, rollout: Rollout) -> list[UpdateStats]:
        def on_step() -> None:
            self.schedule.step()
            self.interrupt.weights_moved()

        stats = update_on_batch(
            self.policy,
            self.optimizer,
            rollout.batch,
            self.spec,
            generator=self.generator,
            reference=self.reference,
            law_state=self.law_state if self.spec.budget.needs_law_state else None,
            on_step=on_step,
        )
        for warning in (entry.warning for entry in stats if entry.warning):
            self._warn(warning)
        return stats

    def _probe(self, rollout: Rollout, step: int) -> dict[str, float]:
        """The gradient's noise, where this step (0-based) is one that measures it."""
        every = self.spec.evaluation.gradient_probe_every
        if not every or (step + 1) % every:
            return {}
        return probe_gradient(
            self.policy,
            rollout.batch,
            self.spec,
            generator=torch.Generator().manual_seed(stream_seed(self.spec.seed, "probe", step)),
            reference=self.reference,
            law_state=self.law_state,
        )

    def _after_step(self, rollout: Rollout, stats: list[UpdateStats]) -> None:
        step, last = self.reporter.step, self.reporter.step == self.spec.steps
        every = self.spec.evaluation.every
        if step == 1 or last or (every and step % every == 0):
            tell_samples(self.reporter, self.spec, self.policy, rollout, stats[-1])
        if last or (every and step % every == 0):
            self._evaluate()
        if last:
            self.saver.save()
        else:
            self.saver.save_if_due()

    # --- reports ---

    def _evaluate(self) -> None:
        self.evaluation_due = True
        started = time.monotonic()
        own, named = self.evaluator.evaluate(self.policy, self.engine, stream_seed(self.spec.seed, "evaluation"))
        self.reporter.emit(EvaluationEvent, **own.model_dump(), sets=named, seconds=time.monotonic() - started)
        self.evaluation_due = False

    def _note(self, message: str) -> None:
        self.reporter.emit(LogEvent, message=message)

    def _warn(self, message: str) -> None:
        self.reporter.emit(LogEvent, level="warning", message=message)

    def _failure(self, reason: str, message: str) -> TrainResult:
        with contextlib.suppress(DiskError):  # then whoever started this reads it on stderr
            self.reporter.emit(LogEvent, level="error", message=message)
            self.reporter.emit(StateEvent, phase="ended", outcome="failed", reason=reason, message=message)
        return TrainResult("failed", self.reporter.step, reason, message)
