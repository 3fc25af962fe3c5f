"""Tasks made by reasoning-gym. A row carries how it was made, so that its verifier can make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from nat_core.data.example import Row
from nat_core.data.library import library
from nat_core.spec import ReasoningGymData

EVALUATION_OFFSET = 1_000_000  # added to the seed: generators seed row i by seed + i, so no row comes twice


def gym_rows(spec: ReasoningGymData, count: int, offset: int = 0) -> Iterator[Row]:
    """`count` rows; the same for the same spec.

    Raises:
        ValueError: there is no such task, or it does not take these settings.
    """
    recipe = {"task": spec.task, "config": dict(spec.config), "seed": spec.seed + offset, "size": count}
    tasks = make_tasks(recipe)
    for index in range(count):
        try:
            entry = tasks[index]
        except Exception as error:  # foreign code: a generator that finds no task for these settings
            yield Row(f"row {index + 1}", None, f"could not be made ({type(error).__name__}: {error})")
        else:
            yield Row(f"row {index + 1}", entry, entry=recipe | {"index": index})


def make_tasks(recipe: Mapping[str, Any]) -> Any:
    """The generator of a recipe.

    Raises:
        ValueError: there is no such task, or it does not take these settings.
    """
    gym: Any = library("reasoning_gym", "data.type reasoning_gym", extra="reasoning")
    try:
        return gym.create_dataset(recipe["task"], seed=recipe["seed"], size=recipe["size"], **recipe["config"])
    except Exception as error:  # foreign code: settings are checked by assertions there
        raise ValueError(f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=1)
def _tasks(recipe_json: str) -> Any:
    """One generator for all tasks of a set, and of the newest set alone: some hold a dictionary of many megabytes."""
    return make_tasks(json.loads(recipe_json))


@lru_cache(maxsize=4096)
def _entry(recipe_json: str, index: int) -> Any:
    return _tasks(recipe_json)[index]


def score_answer(recipe: Mapping[str, Any], answer: str | None) -> float:
    """What reasoning-gym's own verifier says of an answer to the task of a recipe."""
    of_set = json.dumps({key: value for key, value in recipe.items() if key != "index"}, sort_keys=True)
    return float(_tasks(of_set).score_answer(answer=answer, entry=_entry(of_set, recipe["index"])))
