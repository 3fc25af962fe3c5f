"""Reward functions of the operator's own, by import path; a spec alone cannot bring code to run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from nat_core.errors import SpecError
from nat_core.reward.sample import Sample, Verdict, Verifier
from nat_core.spec import CustomReward

ALLOWED = "NATLAB_ALLOWED_REWARDS"
"""Environment variable of the worker: modules, or `module:function`, separated by commas."""


def check_allowed(spec: CustomReward, env: Mapping[str, str] = os.environ) -> None:
    """Raise unless the operator allows the function.

    Raises:
        SpecError: naming the setting.
    """
    allowed = {name.strip() for name in env.get(ALLOWED, "").split(",") if name.strip()}
    if not allowed & {spec.function, spec.function.partition(":")[0]}:
        listed = ", ".join(sorted(allowed)) or "none"
        raise SpecError.at(
            "/reward/function",
            f"reward.function is {spec.function}, but this worker's {ALLOWED} allows {listed}; have its operator add "
            "it there, or use another reward",
        )


def custom(spec: CustomReward) -> Verifier:
    """Call the function.

    Raises:
        SpecError: it cannot be imported.
    """
    function = _imported(spec.function)

    def verify(sample: Sample) -> Verdict:
        reward = function(prompt=sample.prompt, completion=sample.completion, answer=sample.answer)
        if isinstance(reward, bool | int | float):
            return Verdict(float(reward))
        raise TypeError(f"{spec.function} returned {type(reward).__name__}, but a reward is a number")

    return verify


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # foreign code: importing it may raise anything
        raise SpecError.at(
            "/reward/function",
            f"reward.function is {path}, which cannot be imported ({type(error).__name__}: {error}); put it where this "
            "worker's Python finds it (PYTHONPATH)",
        ) from error
    if not callable(function):
        raise SpecError.at("/reward/function", f"reward.function is {path}, which is no function; name one")
    found: Callable[..., Any] = function
    return found
