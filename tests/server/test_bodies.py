"""What a request's body may not say, whatever it is a body of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import Api
from tests.server.support import experiment


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/experiments", experiment(base={"optim": {"learning_rate": True}}), "base.optim.learning_rate"),
        ("POST", "/experiments", experiment(budgets=[{"selector": "urs", "fraction": True}]), "budgets.0.fraction"),
        ("PATCH", "/runs/{run_id}", {"priority": True}, "priority"),
        ("POST", "/runs/{run_id}/heartbeat", {"attempt": 1, "step": True}, "step"),
        ("POST", "/runs/{run_id}/heartbeat", {"attempt": True, "step": 1}, "attempt"),
        ("POST", "/workers/w-1/claim", {"free_gpus": True}, "free_gpus"),
    ],
)
def test_true_is_no_number(
    api: Api, problem: Callable[..., Any], method: str, path: str, body: dict[str, Any], field: str
) -> None:
    found = problem(422, "bad_spec", method, path.format(run_id=api.one_run()), json=body)
    (fault,) = found["errors"]
    assert fault["pointer"] == "/" + field.replace(".", "/")
    assert fault["detail"].startswith(f"{field} is true, but input should be a valid ")
