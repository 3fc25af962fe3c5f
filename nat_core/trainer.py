"""The training loop: prompts → completions → rewards → advantages → update, reported as it goes."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from nat_core import hardware
from nat_core.advantage import group_advantages, overlong_penalty
from nat_core.attention import varlen_serves
from nat_core.batch import CompletionBatch
from nat_core.data import Example, open_source
from nat_core.errors import DiskError, Fault, NatlabError, SpecError
from nat_core.evaluate import Evaluator, score_groups
from nat_core.events import EvaluationEvent, LogEvent, MetricsEvent, SampleEvent, StateEvent
from nat_core.interrupt import Interrupt, Interrupted
from nat_core.model import load_policy
from nat_core.optim import build_optimizer, build_schedule
from nat_core.out_of_memory import is_out_of_memory
from nat_core.probe import probe_gradient
from nat_core.reporter import Reporter, Sink
from nat_core.reward import Scorer
from nat_core.rollout.completion import Completion
from nat_core.rollout.engine import open_engine
from nat_core.saving import Saver
from nat_core.spec import RunSpec
from nat_core.step_metrics import combined
from nat_core.token_selection import GradientMass
from nat_core.update import UpdateStats, update_on_batch

Outcome = Literal["succeeded", "stopped", "failed"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `reason` is an error code where it failed."""

    outcome: Outcome
    steps: int
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Rollout:
    """Completions of one step, flat (prompt-major), with what they were worth."""

    examples: list[Example]
    completions: list[Completion]
    rewards: torch.Tensor  # [P, G]
    batch: CompletionBatch


class Trainer:
    """Trains one spec in one folder."""

    def __init__(
        self,
        spec: RunSpec,
        run_dir: Path,
        sink: Sink | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        resume: bool = False,
    ) -> None:
        """Args:
        sink: called with every event after it is on disk.
        should_stop: asked at every forward pass; when true the run throws away the step it is in, checkpoints and
            ends as `stopped`.
        resume: go on from the newest checkpoint in `run_dir`, where there is one.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        self.spec, self.run_dir = spec, run_dir
        self.resume = resume
        self.reporter = Reporter(run_dir / "events.jsonl", sink)
        self.interrupt = Interrupt(should_stop, self.reporter.touch)
        self.evaluation_due = True
        self._closing = contextlib.ExitStack()

    def train(self) -> TrainResult:
        """Run to the end, to a stop or to a failure, each reported as the last event."""
        try:
            result = self._train()
            self.reporter.emit(StateEvent, phase="ended", outcome=result.outcome)
        except NatlabError as error:
            result = self._failure(error.code, error.message)
        except Exception as error:
            if not is_out_of_memory(error):
                self._failure("error", f"{type(error).__name__}: {error}")
                raise
            result = self._failure("oom", f"out of memory: {error}; lower resources.max_tokens_per_microbatch")
        finally:
            self._closing.close()
            self.reporter.close()
        return result

    def _train(self) -> TrainResult:
        self.set_up()
        self.interrupt.watch(self.policy)
        start = self._restore()
        try:
            self._announce()
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
        metrics = combined([entry.metrics for entry in stats]) | probed
        self._report(rollout, metrics, rollout_s, rollout_s + time.monotonic() - ready)
        self._after_step(rollout, stats)

    # --- set-up ---

    def set_up(self) -> None:
        """Load and build everything a step needs."""
        spec = self.spec
        if spec.resources.num_threads is not None:
            torch.set_num_threads(spec.resources.num_threads)
        self.source = open_source(spec.data, spec.evaluation.num_prompts)
        self.scorer = Scorer(spec.reward, self._warn)
        self.evaluator = Evaluator(spec, self.source, self.scorer, self._warn)
        self._closing.callback(self.evaluator.close)
        torch.manual_seed(spec.seed)
        self.policy = load_policy(spec.model, spec.resources)
        for source in (self.source, *self.evaluator.sources):
            source.limit_prompts(lambda example: len(self.policy.encode(example)), spec.rollout.max_prompt_length)
        self.reference = self.policy.frozen_copy() if spec.objective.beta > 0 else None
        self.optimizer = build_optimizer(self.policy.parameters, spec.optim)
        self.schedule = build_schedule(self.optimizer, spec.optim, spec.steps * spec.objective.num_iterations)
        self.generator = torch.Generator().manual_seed(stream_seed(spec.seed, "selection"))
        self.law_state = GradientMass()
        self.engine = open_engine(spec, self.policy, self.run_dir, self.interrupt.check, self._note)
        self._closing.callback(self.engine.close)

    def _restore(self) -> int:
        """Go on where the folder's newest checkpoint leaves off, where that is asked for. Returns the steps done."""
        parts = (self.policy, self.optimizer, self.schedule, self.generator, self.law_state)
        self.saver = Saver(self.run_dir, self.spec.checkpoint, self.reporter, parts)
        if self.resume:
            restored = self.saver.restore()
            self.reporter.step, self.evaluation_due = restored.step, restored.evaluation_due
        return self.reporter.step

    def _announce(self) -> None:
        """Report the start; its `step` is the one that the run goes on from."""
        spec, start = self.spec, self.reporter.step
        self.reporter.emit(StateEvent, phase="started", hardware=hardware.describe(self.policy.device))
        parameters = sum(parameter.numel() for parameter in self.policy.model.parameters())
        self._note(
            f"{spec.model.path}: {parameters:,} parameters in {spec.model.dtype} on {self.policy.device}, "
            f"budget {spec.budget.label}, loss {spec.objective.loss_type}, {spec.steps} steps"
        )
        self._note(f"micro-batches: {self._layout()}")
        self._note(f"rollouts: {self.engine.description}")
        for source in (self.source, *self.evaluator.sources):
            for note in source.notes:
                self._warn(note)
        if start:
            self._note(f"went on from the checkpoint of step {start}")

    def _layout(self) -> str:
        why = self.policy.unpackable
        if why:
            return f"rows right-padded and sorted by length, because {why}"
        kernel = "FlashAttention for all" if varlen_serves(self.policy.device, self.spec.model.dtype) else "one by one"
        return f"rows packed without padding, a group's prompt once; attention over sequences {kernel}"

    # --- one step ---

    def roll_out(self, step: int) -> Rollout:
        """Sample and score the completions of a step (0-based)."""
        spec = self.spec.rollout
        examples = self.source.training_batch(self.spec.seed, step, spec.num_prompts)
        prompts = [self._encode(example) for example in examples]
        groups = self.engine.generate(
            prompts,
            num_samples=spec.num_generations,
            max_completion_length=spec.max_completion_length,
            temperature=spec.temperature,
            seed=stream_seed(self.spec.seed, "rollout", step),
        )
        scores = torch.tensor(
            [[score.reward for score in group] for group in score_groups(self.policy, self.scorer, examples, groups)]
        )
        lengths = torch.tensor([[len(completion.ids) for completion in group] for group in groups])
        rewards = scores - overlong_penalty(lengths, spec.max_completion_length, self.spec.objective)
        completions = [completion for group in groups for completion in group]
        batch = CompletionBatch(
            prompts=[torch.tensor(ids) for ids in prompts for _ in range(spec.num_generations)],
            completions=[torch.tensor(completion.ids) for completion in completions],
            advantages=group_advantages(rewards, self.spec.objective).flatten(),
            truncated=torch.tensor([completion.truncated for completion in completions]),
            rollout_logprobs=[torch.tensor(completion.logprobs) for completion in completions],
        )
        return Rollout(examples, completions, rewards, batch)

    def _encode(self, example: Example) -> list[int]:
        ids = self.policy.encode(example)
        limit = self.spec.rollout.max_prompt_length
        if not 0 < len(ids) <= limit:
            detail = (
                f"rollout.max_prompt_length is {limit}, but prompt {example.prompt[:60]!r} has {len(ids)} tokens; "
                "raise it or shorten the prompt"
            )
            raise SpecError(detail, [Fault("/rollout/max_prompt_length", detail)])
        return ids

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
            self._show_samples(rollout, stats[-1])
        if last or (every and step % every == 0):
            self._evaluate()
        if last:
            self.saver.save()
        else:
            self.saver.save_if_due()

    # --- reports ---

    def _report(self, rollout: Rollout, values: dict[str, float], rollout_s: float, step_s: float) -> None:
        lengths = rollout.batch.lengths
        self.reporter.emit(
            MetricsEvent,
            values={
                **values,
                "reward": float(rollout.rewards.mean()),
                "reward_std": float(rollout.rewards.std(dim=1).mean()),
                "frac_reward_zero_std": float((rollout.rewards.amax(1) == rollout.rewards.amin(1)).float().mean()),
                "tokens/generated": float(lengths.sum()),
                "completions/mean_length": float(lengths.float().mean()),
                "completions/clipped_ratio": float(rollout.batch.truncated.float().mean()),
                "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
                "timing_s/rollout": rollout_s,
                "timing_s/step": step_s,
                "perf/tokens_per_s": float(lengths.sum()) / step_s,
            },
        )

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

    def _show_samples(self, rollout: Rollout, stats: UpdateStats) -> None:
        """Log some live completions with what the budget did to them."""
        size = self.spec.rollout.num_generations
        for place, flat in list(enumerate(stats.live.tolist()))[: self.spec.resources.num_logged_samples]:
            completion = rollout.completions[flat]
            ids = completion.ids
            example = rollout.examples[flat // size]
            self.reporter.emit(
                SampleEvent,
                prompt=example.prompt,
                tokens=[str(self.policy.tokenizer.decode([token])) for token in ids],
                keep=stats.selection.keep[place, : len(ids)].tolist(),
                inclusion_prob=stats.selection.inclusion_prob[place, : len(ids)].tolist(),
                logprobs=completion.logprobs,
                reward=float(rollout.rewards.flatten()[flat]),
                advantage=float(rollout.batch.advantages[flat]),
                answer=example.answer,
            )

    def _failure(self, reason: str, message: str) -> TrainResult:
        with contextlib.suppress(DiskError):  # then whoever started this reads it on stderr
            self.reporter.emit(LogEvent, level="error", message=message)
            self.reporter.emit(StateEvent, phase="ended", outcome="failed", reason=reason, message=message)
        return TrainResult("failed", self.reporter.step, reason, message)


def stream_seed(seed: int, stream: str, step: int = 0) -> int:
    """Seed of a named random stream at a step: the same in every cell of an experiment, and after a resume."""
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
