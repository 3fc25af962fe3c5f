"""A case small enough for tests: random weights, a few short completions."""

from __future__ import annotations

from bench.cases import Case, RandomModel, random_qwen3

TINY = RandomModel(
    hidden=16,
    layers=2,
    vocabulary=40,
    num_prompts=3,
    num_generations=4,
    shortest_prompt=3,
    longest_prompt=6,
    median_length=10.0,
    shortest=2,
    longest=24,
)


def tiny_case() -> Case:
    return random_qwen3("tiny", TINY)
