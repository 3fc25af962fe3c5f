"""What a budget is measured on: a policy, one rollout batch of it, and earlier batches that `law: optimal` learns from.

`demo`: the built-in model and its task, before training. Real text of one kind: short completions of nearly equal
length, most tokens so certain that they carry no gradient. It shows what a budget that knows where the gradient lies
can win. It cannot speak for long or uneven completions, and its head is so small that selecting tokens saves nothing.

`qwen3-8-layers`: a Qwen3 with random weights, on completions that it sampled itself, cut to log-normal lengths, with
rewards by the toss of a coin. It shows what uneven lengths, attention and a head worth a fifth of the FLOPs do to
variance and cost, with surprisals as spread as a language model's. It cannot show structure: no token's gradient agrees
with another's more than by chance, and along a completion none matters more than the rest. A prefix cut gains from
both, so here it stands near its worst.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from nat_core.advantage import group_advantages
from nat_core.batch import CompletionBatch
from nat_core.drawing import Step, draw_step
from nat_core.gradient import accumulate_gradient
from nat_core.model import Policy
from nat_core.random_model import bare_tokenizer
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.hf import generate
from nat_core.spec import BudgetSpec, FullBudget, ModelSpec, ResourcesSpec, RolloutSpec, RunSpec, demo_experiment
from nat_core.token_selection import GradientMass
from nat_core.trainer import Trainer, stream_seed

EARLIER_STEPS = 5
_MICROBATCH = ResourcesSpec(max_tokens_per_microbatch=1024)  # little padding where lengths are uneven


@dataclass(frozen=True)
class Case:
    """One fixed batch, and all that a selection of it may depend on.

    Attributes:
        name: key in `CASES`.
        batch: the batch that is measured.
        earlier: batches of other steps, never measured.
        law_state: what `law: optimal` knows; empty until `learn`.
    """

    name: str
    policy: Policy
    spec: RunSpec
    batch: CompletionBatch
    earlier: list[CompletionBatch]
    law_state: GradientMass = field(default_factory=GradientMass)

    def draw(self, budget: BudgetSpec, generator: torch.Generator) -> Step:
        """A fresh selection of the measured batch."""
        return draw_step(self.policy, self.batch, self._with(budget), generator, self.law_state)

    def gradient(self, step: Step) -> torch.Tensor:
        """The gradient of a selection's loss, unclipped: Float [parameters]."""
        accumulate_gradient(self.policy, None, step, self.spec)
        parameters = self.policy.parameters
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])

    def learn(self, budget: BudgetSpec, generator: torch.Generator) -> None:
        """Let the law see the earlier batches through selections of its own, as in a run; the weights stay."""
        for batch in self.earlier:
            step = draw_step(self.policy, batch, self._with(budget), generator, self.law_state)
            accumulate_gradient(self.policy, None, step, self.spec, self.law_state)
            self.law_state.finish_step()

    def _with(self, budget: BudgetSpec) -> RunSpec:
        return self.spec.model_copy(update={"budget": budget})


def from_run(name: str, spec: RunSpec, folder: Path) -> Case:
    """Rollout batches of a run's first steps, made by the trainer's own set-up, at the weights it starts from."""
    trainer = Trainer(spec.model_copy(update={"budget": FullBudget()}), folder)
    trainer.set_up()
    batch, *earlier = (trainer.roll_out(step).batch for step in range(1 + EARLIER_STEPS))
    return Case(name, trainer.policy, trainer.spec, batch, earlier)


@dataclass(frozen=True)
class RandomModel:
    """Sizes of a case with random weights.

    Attributes:
        logit_scale: standard deviation of the logits: at 3.5 a sampled token has about 3.7 nats of surprisal.
        success: chance of reward 1 of each prompt's completions, spread evenly from the first to the last prompt.
    """

    hidden: int = 128
    layers: int = 8
    vocabulary: int = 4096
    num_prompts: int = 6
    num_generations: int = 8
    shortest_prompt: int = 16
    longest_prompt: int = 64
    median_length: float = 64.0
    log_length_sigma: float = 1.0
    shortest: int = 8
    longest: int = 400
    logit_scale: float = 3.5
    success: tuple[float, float] = (0.02, 0.9)


def random_qwen3(name: str, sizes: RandomModel, seed: int = 0) -> Case:
    """Random weights, sampled completions, log-normal lengths, random rewards; all seeded."""
    policy = _random_policy(sizes, seed)
    spec = RunSpec(
        rollout=RolloutSpec(
            num_prompts=sizes.num_prompts,
            num_generations=sizes.num_generations,
            max_completion_length=sizes.longest,
        ),
        resources=_MICROBATCH,
        budget=FullBudget(),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(stream_seed(seed, "bench"))
    steps = 1 + EARLIER_STEPS
    prompts = [_random_prompt(sizes, generator) for _ in range(steps * sizes.num_prompts)]
    groups = generate(
        policy,
        prompts,
        Sampling(sizes.num_generations, sizes.longest, 1.0, seed=stream_seed(seed, "rollout")),
        max_batch_size=sizes.num_prompts * sizes.num_generations,
    )
    at = [slice(step * sizes.num_prompts, (step + 1) * sizes.num_prompts) for step in range(steps)]
    batch, *earlier = (_random_batch(prompts[part], groups[part], spec, sizes, generator) for part in at)
    return Case(name, policy, spec, batch, earlier)


def _random_policy(sizes: RandomModel, seed: int) -> Policy:
    config = Qwen3Config(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=sizes.hidden // 4,
        max_position_embeddings=sizes.longest_prompt + sizes.longest,
        tie_word_embeddings=False,
        initializer_range=sizes.hidden**-0.5,  # layers that matter: at the usual 0.02 only the last token would
        pad_token_id=0,
        eos_token_id=None,  # lengths are drawn, not sampled
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(sizes.logit_scale)
    return Policy(model, bare_tokenizer(), torch.device("cpu"), ModelSpec())


def _random_prompt(sizes: RandomModel, generator: torch.Generator) -> list[int]:
    length = int(torch.randint(sizes.shortest_prompt, sizes.longest_prompt + 1, (), generator=generator))
    return torch.randint(1, sizes.vocabulary, (length,), generator=generator).tolist()


def _random_batch(
    prompts: list[list[int]],
    groups: list[list[Completion]],
    spec: RunSpec,
    sizes: RandomModel,
    generator: torch.Generator,
) -> CompletionBatch:
    completions = [completion for group in groups for completion in group]
    spread = torch.randn(len(completions), generator=generator)
    drawn = sizes.median_length * torch.exp(sizes.log_length_sigma * spread)
    lengths = drawn.clamp(sizes.shortest, sizes.longest).long().tolist()
    chances = torch.linspace(*sizes.success, len(prompts)).unsqueeze(1)
    rewards = (torch.rand(len(prompts), sizes.num_generations, generator=generator) < chances).float()
    return CompletionBatch(
        prompts=[torch.tensor(prompt) for prompt in prompts for _ in range(sizes.num_generations)],
        completions=[torch.tensor(c.ids[:n]) for c, n in zip(completions, lengths, strict=True)],
        advantages=group_advantages(rewards, spec.objective).flatten(),
        truncated=torch.zeros(len(completions), dtype=torch.bool),
        rollout_logprobs=[torch.tensor(c.logprobs[:n]) for c, n in zip(completions, lengths, strict=True)],
    )


def _demo(folder: Path) -> Case:
    return from_run("demo", demo_experiment().base.model_copy(update={"resources": _MICROBATCH}), folder)


CASES: dict[str, Callable[[Path], Case]] = {
    "demo": _demo,
    "qwen3-8-layers": lambda folder: random_qwen3("qwen3-8-layers", RandomModel()),
}
