"""The cases: what is measured is fixed, and what a law learned came from elsewhere."""

from __future__ import annotations

import torch

from bench.cases import EARLIER_STEPS
from nat_core.logprobs import selected_logprobs
from nat_core.spec import FullBudget, RpcBudget
from tests.bench.builders import TINY, tiny_case


def test_random_case_is_the_same_each_time_and_within_its_sizes() -> None:
    case, again = tiny_case(), tiny_case()
    assert [ids.tolist() for ids in case.batch.completions] == [ids.tolist() for ids in again.batch.completions]
    assert torch.equal(case.batch.advantages, again.batch.advantages)
    lengths = case.batch.lengths
    assert len(lengths) == 12 and len(case.earlier) == EARLIER_STEPS
    assert TINY.shortest <= int(lengths.min()) < int(lengths.max()) <= TINY.longest


def test_random_case_carries_the_log_probabilities_of_its_own_model() -> None:
    case = tiny_case()
    prompt, completion = case.batch.prompts[0], case.batch.completions[0]
    with torch.no_grad():
        hidden = case.policy.hidden_states(torch.cat([prompt, completion])[:-1].unsqueeze(0))[0, len(prompt) - 1 :]
        own, _ = selected_logprobs(hidden, completion, case.policy.head, temperature=1.0, chunk_tokens=100)
    torch.testing.assert_close(case.batch.rollout_logprobs[0], own, rtol=1e-3, atol=1e-3)


def test_law_learns_from_earlier_batches_only_and_the_weights_stay() -> None:
    case, changed = tiny_case(), tiny_case()
    changed.batch.advantages[:] = 7.0
    before = [parameter.detach().clone() for parameter in case.policy.parameters]
    for one in (case, changed):
        one.learn(RpcBudget(law="optimal"), torch.Generator().manual_seed(3))
    learned, same = case.law_state.estimate, changed.law_state.estimate
    assert learned is not None and same is not None and float(learned.sum()) > 0
    assert torch.equal(learned, same)
    assert all(torch.equal(a, b) for a, b in zip(before, case.policy.parameters, strict=True))
    case.gradient(case.draw(FullBudget(), torch.Generator().manual_seed(0)))
    case.law_state.finish_step()
    after = case.law_state.estimate
    assert after is not None and torch.equal(after, 0.9 * learned)  # measuring adds nothing
