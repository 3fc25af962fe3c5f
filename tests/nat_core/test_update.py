"""The update step against the plain padded one, in float64 on a real small transformer."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable

import pytest
import torch

from nat_core.drawing import draw_step
from nat_core.errors import NonFiniteLossError, StepMemoryError
from nat_core.loss import policy_loss
from nat_core.model import Policy
from nat_core.out_of_memory import is_out_of_memory
from nat_core.probe import probe_gradient
from nat_core.spec import FullBudget, ModelSpec, RpcBudget, RunSpec
from nat_core.token_selection import GradientMass, TokenSelection, select_tokens
from nat_core.update import CompletionBatch, update_on_batch, update_step
from tests.nat_core.builders import Attention, batch, gradients, run_spec, soft_capped_policy, tiny_policy

BATCH = batch([5, 3, 6, 4, 2], [7, 12, 1, 9, 4], [0.5, -1.0, 0.8, 0.0, 1.5])
ONE_GROUP = dataclasses.replace(BATCH, prompts=[BATCH.prompts[0]] * 5)
TWO_GROUPS = dataclasses.replace(BATCH, prompts=[BATCH.prompts[i] for i in (0, 1, 1, 0, 0)])
SAMPLED = [-torch.linspace(0.01, 3, int(n)).cos().abs() for n in BATCH.lengths]  # log-probabilities of a rollout
BUDGETS = [
    {"selector": "full"},
    {"selector": "urs", "fraction": 0.4},
    {"selector": "urs", "fraction": 0.4, "design": "fixed"},
    {"selector": "rpc", "fraction": 0.5, "law": "linear"},
    {"selector": "rpc", "fraction": 0.5, "coupling": "iid"},
    {"selector": "rpc", "fraction": 0.5, "coupling": "systematic"},
    {"selector": "rpc", "fraction": 0.6, "law": "uniform"},
    {"selector": "rpc", "fraction": 0.4, "law": "optimal"},
    {"selector": "completions", "fraction": 0.6},
    {"selector": "completions", "fraction": 0.6, "weighting": "flat"},
    {"selector": "importance", "fraction": 0.5},
    {"selector": "top_surprisal", "fraction": 0.5},
    {"selector": "truncate", "fraction": 0.5},
]
EACH_BUDGET = pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: "-".join(map(str, b.values())))
EACH_LAYOUT = pytest.mark.parametrize(
    ("rows_of_step", "attention"),
    [
        (dataclasses.replace(rows, rollout_logprobs=SAMPLED), attention)
        for rows, attention in [(BATCH, "sdpa"), (ONE_GROUP, "sdpa"), (TWO_GROUPS, "sdpa"), (TWO_GROUPS, "eager")]
    ],
    ids=["packed", "packed, one prompt", "packed, two prompts", "padded"],
)


def spec_for(budget: dict[str, object], **sections: object) -> RunSpec:
    return run_spec(budget=budget, rollout={"max_completion_length": 16, "temperature": 0.8}, **sections)


def frozen_optimizer(policy: Policy) -> torch.optim.Optimizer:
    return torch.optim.SGD(policy.parameters, lr=0.0)


def padded_step(
    policy: Policy, rows: CompletionBatch, selection: TokenSelection, spec: RunSpec
) -> tuple[float, torch.Tensor]:
    """Loss and gradient with everything at once: full sequences, full logits, one loss. Slow and plain."""
    logprobs = torch.zeros(selection.keep.shape, dtype=policy.parameters[0].dtype)
    for i, (prompt, completion) in enumerate(zip(rows.prompts, rows.completions, strict=True)):
        logits = (
            policy.model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0] / spec.rollout.temperature
        )
        picked = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1].gather(1, completion.unsqueeze(1)).squeeze(1)
        logprobs = logprobs.index_put((torch.full((len(completion),), i), torch.arange(len(completion))), picked)
    lengths = rows.lengths
    loss = policy_loss(
        spec.objective, logprobs, logprobs.detach(), rows.advantages, lengths, selection,
        max_completion_length=spec.rollout.max_completion_length,
        total_tokens=int(BATCH.lengths.sum()), num_completions=len(BATCH.completions),
    ).loss  # fmt: skip
    policy.model.zero_grad()
    loss.backward()
    return float(loss.detach()), gradients(policy)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
@EACH_LAYOUT
@EACH_BUDGET
def test_update_step_gradient_equals_the_plain_padded_step(
    budget: dict[str, object], rows_of_step: CompletionBatch, attention: Attention, loss_type: str
) -> None:
    policy = tiny_policy(attention=attention)
    assert policy.layout == ("packed" if attention == "sdpa" else "padded")
    spec = spec_for(
        budget,
        objective={"loss_type": loss_type},
        resources={"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3},
        optim={"max_grad_norm": 1e9},
    )
    rows = rows_of_step.rows(rows_of_step.live(spec))
    selection = draw_step(policy, rows_of_step, spec, torch.Generator().manual_seed(5)).selection
    loss, expected = padded_step(policy, rows, selection, spec)
    stats = update_step(
        policy, frozen_optimizer(policy), rows_of_step, spec, generator=torch.Generator(), selection=selection
    )
    assert float(expected.abs().max()) > 1e-4
    assert float((gradients(policy) - expected).abs().max()) <= 1e-10
    assert stats.metrics["loss"] == pytest.approx(loss, abs=1e-10)
    assert stats.metrics["tokens/selected"] == selection.num_kept
    assert stats.metrics["grad_norm"] == pytest.approx(float(expected.norm()))


@EACH_LAYOUT
@EACH_BUDGET
def test_in_single_precision_the_gradient_is_the_same_to_its_rounding(
    budget: dict[str, object], rows_of_step: CompletionBatch, attention: Attention
) -> None:
    policy = tiny_policy(dtype=torch.float32, attention=attention)
    resources = {"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3}
    spec = spec_for(budget, resources=resources, optim={"max_grad_norm": 1e9})
    step = draw_step(policy, rows_of_step, spec, torch.Generator().manual_seed(5))
    loss, expected = padded_step(policy, rows_of_step.rows(rows_of_step.live(spec)), step.selection, spec)
    stats = update_step(
        policy, frozen_optimizer(policy), rows_of_step, spec, generator=torch.Generator(), selection=step.selection
    )
    assert float((gradients(policy) - expected).norm()) <= 1e-5 * float(expected.norm())
    assert stats.metrics["loss"] == pytest.approx(loss, abs=1e-5 * float(expected.norm()))


@pytest.mark.parametrize(
    "make", [lambda: tiny_policy(tied=True), soft_capped_policy], ids=["tied", "tied and soft-capped"]
)
@EACH_BUDGET
def test_heads_of_every_kind_give_the_plain_step_s_gradient(
    budget: dict[str, object], make: Callable[[], Policy]
) -> None:
    policy, rows = make(), dataclasses.replace(TWO_GROUPS, rollout_logprobs=SAMPLED)
    assert policy.model.get_output_embeddings().weight is policy.model.get_input_embeddings().weight
    resources = {"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3}
    spec = spec_for(budget, resources=resources, optim={"max_grad_norm": 1e9})
    step = draw_step(policy, rows, spec, torch.Generator().manual_seed(5))
    loss, expected = padded_step(policy, rows.rows(rows.live(spec)), step.selection, spec)
    stats = update_step(
        policy, frozen_optimizer(policy), rows, spec, generator=torch.Generator(), selection=step.selection
    )
    assert float(expected.abs().max()) > 1e-4
    assert float((gradients(policy) - expected).abs().max()) <= 1e-10
    assert stats.metrics["loss"] == pytest.approx(loss, abs=1e-10)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@EACH_BUDGET
def test_in_bfloat16_the_gradient_is_that_of_float32_but_for_its_rounding(
    budget: dict[str, object], attention: Attention
) -> None:
    policy, rows = (
        tiny_policy(dtype=torch.float32, attention=attention),
        dataclasses.replace(TWO_GROUPS, rollout_logprobs=SAMPLED),
    )
    policy.spec = ModelSpec(dtype="bfloat16", attn_implementation=attention)
    assert policy.layout == ("packed" if attention == "sdpa" else "padded")
    resources = {"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3}
    spec = spec_for(budget, resources=resources, optim={"max_grad_norm": 1e9})
    step = draw_step(policy, rows, spec, torch.Generator().manual_seed(5))
    _, expected = padded_step(tiny_policy(dtype=torch.float32), rows.rows(rows.live(spec)), step.selection, spec)
    update_step(policy, frozen_optimizer(policy), rows, spec, generator=torch.Generator(), selection=step.selection)
    gradient = gradients(policy)
    assert gradient.dtype == torch.float32
    assert 1e-5 < float((gradient - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize("resources", [
    {"max_tokens_per_microbatch": 1}, {"max_tokens_per_microbatch": 40}, {"per_device_train_batch_size": 2},
])  # fmt: skip
def test_micro_batches_change_nothing(resources: dict[str, int]) -> None:
    found = []
    for chosen in ({}, resources):
        policy = tiny_policy(tied=True)
        spec = spec_for({"selector": "rpc", "fraction": 0.5}, resources=chosen, optim={"max_grad_norm": 1e9})
        stats = update_step(policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator().manual_seed(1))
        found.append((gradients(policy), stats.metrics["loss"]))
    assert float((found[0][0] - found[1][0]).abs().max()) <= 1e-10
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-10)


def test_dead_rows_leave_before_selection_and_stay_in_the_denominator() -> None:
    spec = spec_for({"selector": "full"})
    assert BATCH.live(spec).tolist() == [0, 1, 2, 4]
    stats = update_step(policy := tiny_policy(), frozen_optimizer(policy), BATCH, spec, generator=torch.Generator())
    assert stats.metrics["tokens/live"] == 7 + 12 + 1 + 4
    # on policy every ratio is 1: loss = -sum A_i T_i / all tokens, the dead row's nine included
    assert stats.metrics["loss"] == pytest.approx(-(0.5 * 7 - 1.0 * 12 + 0.8 * 1 + 1.5 * 4) / 33)


def test_with_kl_no_row_is_dead_and_the_reference_pulls() -> None:
    spec = spec_for({"selector": "full"}, objective={"beta": 0.5}, optim={"max_grad_norm": 1e9})
    policy, reference = tiny_policy(0), tiny_policy(1)
    assert BATCH.live(spec).tolist() == [0, 1, 2, 3, 4]
    stats = update_step(policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator(), reference=reference)
    assert stats.metrics["kl"] > 0
    same = update_step(
        policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator(), reference=policy.reference()
    )
    assert same.metrics["kl"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "trunk"),
    # live rows: prompts 5,3,6,2; kept ceil of half of 7,12,1,4 = 4,6,1,2; one token less each is read
    [(BATCH, (5 + 3) + (3 + 5) + (6 + 0) + (2 + 1)), (ONE_GROUP, 5 + 3 + 5 + 0 + 1)],
    ids=["four prompts", "one prompt"],
)
def test_only_the_kept_prefix_goes_through_the_trunk_and_a_shared_prompt_once(
    rows: CompletionBatch, trunk: int
) -> None:
    spec = spec_for({"selector": "truncate", "fraction": 0.5})
    stats = update_step(policy := tiny_policy(), frozen_optimizer(policy), rows, spec, generator=torch.Generator())
    assert stats.metrics["tokens/trunk"] == stats.metrics["tokens/padded"] == trunk


def watched(policy: Policy) -> list[tuple[str, int, bool]]:
    """What goes through the policy from here on: layers or head, how many tokens, and whether a graph is recorded."""
    assert policy.layout == "packed"  # tried out before
    seen: list[tuple[str, int, bool]] = []
    policy.model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: seen.append(("layers", given["input_ids"].numel(), torch.is_grad_enabled())),
        with_kwargs=True,
    )
    policy.model.get_output_embeddings().register_forward_pre_hook(
        lambda _, given: seen.append(("head", given[0].shape[0], torch.is_grad_enabled()))
    )
    return seen


def through(seen: list[tuple[str, int, bool]], graph: bool) -> tuple[int, int]:
    """Tokens through layers and head in passes with a graph, or without."""
    layers, head = (
        sum(count for where, count, recorded in seen if where == place and recorded is graph)
        for place in ("layers", "head")
    )
    return layers, head


def test_reference_passes_are_limited_to_what_was_kept_and_record_no_graph() -> None:
    spec = spec_for({"selector": "truncate", "fraction": 0.5}, objective={"beta": 0.1})
    policy, reference = tiny_policy(0), tiny_policy(1)
    own, its = watched(policy), watched(reference)
    stats = update_step(policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator(), reference=reference)
    # prompts 5, 3, 6, 4, 2; kept of 7, 12, 1, 9, 4: 4, 6, 1, 5, 2, of which the last is only predicted
    assert through(its, graph=False) == through(own, graph=True) == ((5 + 3) + (3 + 5) + 6 + (4 + 4) + (2 + 1), 18)
    assert through(its, graph=True) == through(own, graph=False) == (0, 0)
    assert stats.metrics["tokens/selected"] == 18
    assert all(parameter.grad is None for parameter in reference.parameters)


def test_the_old_policy_s_pass_is_limited_to_what_any_step_keeps_and_records_no_graph() -> None:
    spec = spec_for({"selector": "rpc", "fraction": 0.5, "coupling": "iid"}, objective={"num_iterations": 2})
    policy = tiny_policy()
    seen, source = watched(policy), torch.Generator().manual_seed(4)
    stats = update_on_batch(policy, frozen_optimizer(policy), BATCH, spec, generator=source)
    kept = torch.stack([entry.selection.kept_length for entry in stats])
    union, prompts = kept.amax(dim=0), BATCH.prompt_lengths[stats[0].live]
    assert not kept[0].equal(kept[1]) and int(union.sum()) < 24
    layers = int((prompts + union - 1)[union > 0].sum())
    assert through(seen, graph=False) == (layers, int(union.sum()))
    assert through(seen, graph=True)[1] == int(kept.sum())


@EACH_BUDGET
def test_a_step_with_nothing_live_has_zero_gradients_and_still_steps(budget: dict[str, object]) -> None:
    known = [-torch.rand(4, dtype=torch.float64) for _ in range(2)]
    dead = dataclasses.replace(batch([3, 3], [4, 4], [0.0, 0.0]), rollout_logprobs=known)
    policy, law_state = tiny_policy(), GradientMass()
    law_state.estimate = torch.ones(64, dtype=torch.float64)
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-2, weight_decay=0.1)
    before = copy.deepcopy(policy.model.state_dict())
    spec = spec_for(budget)
    stats = update_step(policy, optimizer, dead, spec, generator=torch.Generator(), law_state=law_state)
    assert stats.metrics["grad_norm"] == 0 and stats.metrics["tokens/selected"] == 0
    assert "budget/fraction" not in stats.metrics
    changed = policy.model.state_dict()
    assert any(not before[name].equal(changed[name]) for name in before)  # the decay of a real optimizer step


def test_a_step_with_nothing_kept_has_zero_gradients_and_still_steps() -> None:
    policy = tiny_policy()
    spec = spec_for({"selector": "urs", "fraction": 0.001})
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-2, weight_decay=0.1)
    before = copy.deepcopy(policy.model.state_dict())
    stats = update_step(policy, optimizer, BATCH, spec, generator=torch.Generator().manual_seed(0))
    assert stats.metrics["tokens/live"] == 24 and stats.metrics["tokens/selected"] == 0
    assert stats.metrics["grad_norm"] == stats.metrics["loss"] == stats.metrics["budget/fraction"] == 0
    assert any(not before[name].equal(value) for name, value in policy.model.state_dict().items())


def with_rollout_logprobs(shift: float) -> CompletionBatch:
    """The batch as an engine would have sampled it whose log-probabilities are off by `shift`."""
    policy, rows = tiny_policy(), []
    for prompt, completion in zip(BATCH.prompts, BATCH.completions, strict=True):
        logits = policy.model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0] / 0.8
        picked = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1].gather(1, completion.unsqueeze(1)).squeeze(1)
        rows.append(picked.detach() + shift)
    return dataclasses.replace(BATCH, rollout_logprobs=rows)


def test_rollout_correction_scales_the_gradient_by_the_truncated_ratio() -> None:
    found = []
    for objective in ({}, {"rollout_is": "token", "rollout_is_cap": 1.25}):
        policy = tiny_policy()
        spec = spec_for({"selector": "rpc", "fraction": 0.5}, objective=objective, optim={"max_grad_norm": 1e9})
        source = torch.Generator().manual_seed(1)
        rolled = with_rollout_logprobs(-0.5)  # the trainer finds every token exp(0.5) = 1.65 times as likely
        stats = update_step(policy, frozen_optimizer(policy), rolled, spec, generator=source)
        found.append(gradients(policy))
    # the model's norms work in float32, so a scaled gradient is the same to its precision only
    assert float((found[1] - 1.25 * found[0]).norm()) <= 1e-6 * float(found[0].norm())
    assert stats.metrics["rollout_is_ratio"] == pytest.approx(1.25 * float(stats.selection.weights.sum()) / 24)


def test_several_iterations_take_the_rollouts_logprobs_for_old() -> None:
    spec = spec_for({"selector": "full"}, objective={"num_iterations": 2, "epsilon": 0.2})
    policy = tiny_policy()
    stats = update_on_batch(
        policy, frozen_optimizer(policy), with_rollout_logprobs(-0.5), spec, generator=torch.Generator()
    )
    # every ratio is 1.65 in both: clipped where the advantage is positive, in 7 + 1 + 4 of 24 live tokens
    assert [entry.metrics["clip_ratio"] for entry in stats] == [pytest.approx(12 / 24)] * 2
    corrected = spec_for({"selector": "full"}, objective={"num_iterations": 2, "rollout_is": "token"})
    stats = update_on_batch(
        policy, frozen_optimizer(policy), with_rollout_logprobs(-0.5), corrected, generator=torch.Generator()
    )
    assert [entry.metrics["clip_ratio"] for entry in stats] == [0, 0]  # against a pass of the trainer's own
    assert stats[0].metrics["rollout_is_ratio"] == pytest.approx(math.exp(0.5))


def test_means_of_a_biased_budget_are_over_the_tokens_it_keeps() -> None:
    spec = spec_for({"selector": "truncate", "fraction": 0.5}, objective={"num_iterations": 2, "epsilon": 0.2})
    policy = tiny_policy()
    stats = update_on_batch(
        policy, frozen_optimizer(policy), with_rollout_logprobs(-0.5), spec, generator=torch.Generator()
    )
    # 4, 6, 1 and 2 of 7, 12, 1 and 4 live tokens are kept, and clipped where the advantage is positive
    assert stats[0].metrics["tokens/selected"] == 13
    assert stats[0].metrics["clip_ratio"] == pytest.approx((4 + 1 + 2) / 13)


def test_with_an_entropy_bonus_no_row_is_dead_and_entropy_rises() -> None:
    spec = spec_for({"selector": "full"}, objective={"entropy_coef": 1.0}, optim={"max_grad_norm": 1e9})
    dead, policy = batch([3, 3], [6, 6], [0.0, 0.0]), tiny_policy()
    optimizer = torch.optim.SGD(policy.parameters, lr=2.0)
    entropies = [
        update_step(policy, optimizer, dead, spec, generator=torch.Generator()).metrics["entropy"] for _ in range(5)
    ]
    assert entropies == sorted(entropies) and entropies[-1] > entropies[0] + 1e-3


def test_law_optimal_learns_from_finished_steps_only() -> None:
    spec = spec_for({"selector": "rpc", "fraction": 0.5, "law": "optimal"}, objective={"num_iterations": 2})
    policy, state = tiny_policy(), GradientMass()
    first = update_on_batch(
        policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator().manual_seed(0), law_state=state
    )
    linear = select_tokens(RpcBudget(fraction=0.5), torch.tensor([12]), generator=torch.Generator())
    for stats in first:  # both were drawn before anything was known
        assert stats.selection.inclusion_prob[1, :12].equal(linear.inclusion_prob[0])
    assert state.estimate is not None and float(state.estimate.sum()) > 0
    (second, _) = update_on_batch(
        policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator().manual_seed(0), law_state=state
    )
    assert not second.selection.inclusion_prob[1, :12].equal(linear.inclusion_prob[0])


def test_a_probe_of_full_finds_no_noise_and_one_of_half_does() -> None:
    policy = tiny_policy()
    for budget, noisy in (({"selector": "full"}, False), ({"selector": "urs", "fraction": 0.5}, True)):
        found = probe_gradient(policy, BATCH, spec_for(budget), generator=torch.Generator().manual_seed(0))
        assert (found["probe/relative_variance"] > 0.01) == noisy
        assert (found["probe/cosine"] < 0.999) == noisy
    dead = batch([3, 3], [4, 4], [0.0, 0.0])
    assert probe_gradient(policy, dead, spec_for({"selector": "urs"}), generator=torch.Generator()) == {}


def test_a_probe_is_the_distance_of_two_selections_gradients() -> None:
    policy, spec = tiny_policy(), spec_for({"selector": "rpc", "fraction": 0.5})
    found = probe_gradient(policy, BATCH, spec, generator=torch.Generator().manual_seed(3))
    rows, source = BATCH.rows(BATCH.live(spec)), torch.Generator().manual_seed(3)
    full = padded_step(policy, rows, select_tokens(FullBudget(), rows.lengths, generator=source), spec)[1]
    parts = [
        padded_step(policy, rows, select_tokens(spec.budget, rows.lengths, generator=source), spec)[1] for _ in range(2)
    ]
    errors = [float((part - full).square().sum() / full.square().sum()) for part in parts]
    cosines = [float(torch.cosine_similarity(part, full, dim=0)) for part in parts]
    assert found["probe/relative_variance"] == pytest.approx(sum(errors) / 2)
    assert found["probe/cosine"] == pytest.approx(sum(cosines) / 2)


def test_non_finite_loss_leaves_the_weights_alone() -> None:
    policy = tiny_policy()
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[3] = float("nan")
    before = copy.deepcopy(policy.model.state_dict())
    with pytest.raises(NonFiniteLossError, match="not finite"):
        update_step(
            policy,
            torch.optim.SGD(policy.parameters, lr=1.0),
            BATCH,
            spec_for({"selector": "full"}),
            generator=torch.Generator(),
        )
    after = policy.model.state_dict()
    assert all(torch.equal(before[name], after[name]) or "lm_head" in name for name in before)


def test_several_iterations_draw_fresh_selections_and_measure_ratios_from_before_the_first() -> None:
    spec = spec_for({"selector": "urs", "fraction": 0.5}, objective={"num_iterations": 3})
    policy = tiny_policy()
    optimizer = torch.optim.SGD(policy.parameters, lr=5.0)
    steps = []
    stats = update_on_batch(
        policy, optimizer, BATCH, spec, generator=torch.Generator().manual_seed(0), on_step=lambda: steps.append(1)
    )
    assert len(stats) == len(steps) == 3
    masks = [entry.selection.keep for entry in stats if entry.selection is not None]
    assert not masks[0].equal(masks[1]) and not masks[1].equal(masks[2])
    assert stats[0].metrics["clip_ratio"] == 0  # on policy
    assert stats[2].metrics["clip_ratio"] > 0  # two big steps away


def test_a_shared_prompt_makes_short_completions_cheaper_only_where_it_is_computed_once() -> None:
    spec = spec_for({"selector": "completions", "fraction": 0.5})
    chances = []
    layouts: tuple[Attention, ...] = ("sdpa", "eager")
    for attention in layouts:
        step = draw_step(tiny_policy(attention=attention), ONE_GROUP, spec, torch.Generator())
        chances.append(step.selection.inclusion_prob[:, 0])
    assert not torch.allclose(*chances, rtol=1e-3)


class Room:
    """Stands in for a device with room for so many tokens at once: more, and a pass fails as torch's allocator does."""

    def __init__(self, policy: Policy, tokens: int) -> None:
        self.tokens, self.passes = tokens, 0
        policy.model.get_decoder().register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, module: torch.nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        self.passes += 1
        if kwargs["input_ids"].numel() > self.tokens:
            raise torch.OutOfMemoryError("tried to allocate more")


def test_a_step_that_runs_out_of_memory_is_done_over_in_halves() -> None:
    spec = spec_for({"selector": "rpc", "law": "optimal"}, optim={"max_grad_norm": 1e9})
    found = []
    for room in (10_000, 19):
        policy, state = tiny_policy(), GradientMass()
        assert policy.layout == "packed"
        Room(policy, room)
        stats = update_step(
            policy, frozen_optimizer(policy), BATCH, spec, generator=torch.Generator().manual_seed(3), law_state=state
        )
        assert state.estimate is not None
        found.append((gradients(policy), stats, state.estimate))
    (whole, _, learned), (halves, stats, learned_again) = found
    assert float((whole - halves).abs().max()) <= 1e-10 and torch.allclose(learned, learned_again, rtol=1e-12)
    assert found[0][1].warning is None
    assert stats.warning is not None and "out of memory with micro-batches of 20 tokens" in stats.warning


def test_a_step_whose_half_does_not_fit_either_says_with_what_it_was_tried() -> None:
    policy = tiny_policy()
    assert policy.layout == "packed"
    Room(policy, 12)
    with pytest.raises(
        StepMemoryError, match=r"micro-batches of \d+ tokens and again with \d+ .*lower resources"
    ) as caught:
        update_step(
            policy, frozen_optimizer(policy), BATCH, spec_for({"selector": "full"}), generator=torch.Generator()
        )
    assert caught.value.code == "oom"


def test_the_old_policy_s_pass_is_done_over_in_halves_too() -> None:
    spec = spec_for({"selector": "full"}, objective={"num_iterations": 2}, optim={"max_grad_norm": 1e9})
    found = []
    for room in (10_000, 19):  # 36 tokens in all
        policy = tiny_policy()
        assert policy.layout == "packed"
        Room(policy, room)
        optimizer = torch.optim.SGD(policy.parameters, lr=0.5)
        stats = update_on_batch(policy, optimizer, BATCH, spec, generator=torch.Generator().manual_seed(3))
        found.append((gradients(policy), [entry.warning for entry in stats]))
    (whole, none), (halves, warnings) = found
    assert float((whole - halves).abs().max()) <= 1e-10 and none == [None, None]
    assert [str(warning).count("out of memory with micro-batches of 36 tokens") for warning in warnings] == [2, 1]


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_out_of_memory_is_known_in_all_its_forms(error: Exception, known: bool) -> None:
    assert is_out_of_memory(error) is known
