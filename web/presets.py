"""Experiments to start from: each fills the launch page, and is changed there like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nat_core.spec import ExperimentSpec, demo_experiment, parse_experiment_spec


@dataclass(frozen=True)
class Preset:
    """A named experiment; `spec` makes it anew each time."""

    title: str
    description: str
    spec: Callable[[], ExperimentSpec]


_BUDGETS = [
    {"selector": "full"},
    {"selector": "rpc", "fraction": 0.5},
    {"selector": "urs", "fraction": 0.5},
    {"selector": "completions", "fraction": 0.5},
]


def _smollm2_on_gsm8k() -> ExperimentSpec:
    return parse_experiment_spec(
        {
            "name": "How few tokens does grade-school mathematics need?",
            "base": {
                "model": {
                    "path": "HuggingFaceTB/SmolLM2-360M-Instruct",
                    "dtype": "bfloat16",
                    "chat_template": True,
                    "system_prompt": "Solve the problem step by step. Put the final number in \\boxed{}.",
                },
                "data": {"type": "gsm8k"},
                "reward": {"type": "math_verify"},
                "rollout": {"num_prompts": 32, "num_generations": 8, "max_completion_length": 512},
                "objective": {"epsilon_high": 0.28},
                "optim": {"learning_rate": 1e-6, "warmup_steps": 10},
                "evaluation": {"every": 20, "num_prompts": 256, "num_samples": 1},
                "checkpoint": {"every": 50},
                "resources": {"max_tokens_per_microbatch": 8192},
                "steps": 300,
            },
            "budgets": _BUDGETS,
            "seeds": [0, 1, 2],
            "tags": ["gsm8k"],
        }
    )


def _qwen3_on_math() -> ExperimentSpec:
    return parse_experiment_spec(
        {
            "name": "How few tokens does competition mathematics need?",
            "base": {
                "model": {
                    "path": "Qwen/Qwen3-8B",
                    "dtype": "bfloat16",
                    "chat_template": True,
                    "gradient_checkpointing": True,
                    "system_prompt": "Reason step by step, and put the final answer within \\boxed{}.",
                },
                # About 14,000 competition problems with whole-number answers.
                "data": {
                    "type": "huggingface",
                    "path": "open-r1/DAPO-Math-17k-Processed",
                    "subset": "en",
                    "prompt_field": "prompt",
                    "answer_field": "solution",
                    "on_bad_row": "skip",
                },
                "reward": {"type": "math_verify"},
                "rollout": {
                    "num_prompts": 32,
                    "num_generations": 8,
                    "max_prompt_length": 1024,
                    "max_completion_length": 4096,
                },
                "objective": {"epsilon_high": 0.28, "mask_truncated_completions": True},
                "optim": {"learning_rate": 1e-6, "warmup_steps": 10},
                "evaluation": {
                    "every": 25,
                    "num_prompts": 128,
                    "num_samples": 4,
                    "greedy": False,
                    "sets": {"math500": {"data": {"type": "math500"}, "num_prompts": 500, "num_samples": 1}},
                },
                "checkpoint": {"every": 50},
                "resources": {"device": "cuda", "max_tokens_per_microbatch": 8192},
                "steps": 200,
            },
            "budgets": _BUDGETS,
            "seeds": [0, 1, 2],
            "tags": ["math"],
        }
    )


PRESETS: dict[str, Preset] = {
    "demo": Preset(
        "Demo: chained arithmetic",
        "Four budgets on the built-in 0.8M-parameter model; minutes on two CPU cores.",
        demo_experiment,
    ),
    "smollm2-gsm8k": Preset(
        "SmolLM2 on GSM8K",
        "Four budgets, three seeds, on a GPU; model and data come from the hub.",
        _smollm2_on_gsm8k,
    ),
    "qwen3-8b-math": Preset(
        "Qwen3-8B on MATH",
        "Four budgets, three seeds, completions of up to 4,096 tokens on a GPU of 141 GB; MATH-500 is answered at "
        "every evaluation. Model and data come from the hub.",
        _qwen3_on_math,
    ),
}
