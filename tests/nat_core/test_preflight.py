"""What is refused before a run starts."""

from __future__ import annotations

import pytest

from nat_core.errors import SpecError
from nat_core.preflight import check_experiment, check_microbatch, check_run
from nat_core.spec import parse_experiment_spec, parse_run_spec

ROLLOUT = {"max_prompt_length": 50, "max_completion_length": 100}


@pytest.mark.parametrize("cap", [49, 149])
def test_a_micro_batch_below_the_longest_row_is_refused(cap: int) -> None:
    spec = parse_run_spec({"rollout": ROLLOUT, "resources": {"max_tokens_per_microbatch": cap}})
    with pytest.raises(SpecError, match=rf"is {cap}, but one completion with its prompt may have 150 tokens") as caught:
        check_microbatch(spec)
    assert [fault.pointer for fault in caught.value.faults] == ["/resources/max_tokens_per_microbatch"]


@pytest.mark.parametrize(
    "resources",
    [{"max_tokens_per_microbatch": 150}, {"max_tokens_per_microbatch": 1, "per_device_train_batch_size": 4}],
)
def test_one_that_holds_it_and_a_number_of_rows_are_fine(resources: dict[str, int]) -> None:
    check_microbatch(parse_run_spec({"rollout": ROLLOUT, "resources": resources}))


def test_in_an_experiment_the_fault_is_in_its_base() -> None:
    base = {"rollout": ROLLOUT, "resources": {"max_tokens_per_microbatch": 10}}
    with pytest.raises(SpecError) as caught:
        check_experiment(parse_experiment_spec({"name": "x", "base": base, "budgets": [{"selector": "full"}]}))
    assert [fault.pointer for fault in caught.value.faults] == ["/base/resources/max_tokens_per_microbatch"]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"model": {"lora": {"r": 4}}}, "adapters are trained on one GPU"),
        ({"rollout": {"engine": "vllm"}}, "vLLM serves one GPU's run"),
    ],
)
def test_what_is_done_on_one_gpu_only_is_refused_on_several(document: dict[str, object], why: str) -> None:
    check_run(parse_run_spec({**document, "resources": {"gpus": 1}}))
    with pytest.raises(SpecError, match=rf"resources.gpus is 2, but .*{why}"):
        check_run(parse_run_spec({**document, "resources": {"gpus": 2}}))
