"""Runs in people's own tools: TensorBoard, Weights & Biases, MLflow.

A sink reads what a run reported, from the server or from a folder of `natlab train`, and writes it there. It is a
reader of the record and no part of training: a tool that is slow or away, or its credentials, never meet a trainer, and
a run that ended long ago can still be sent. Adding a tool is one file here, one row in `SINKS`, and one test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from client.errors import ClientError
from client.sinks.sink import RunInfo, Sink, values_of
from nat_core.events import AnyEvent, StateEvent

__all__ = ["SINKS", "RunInfo", "Sink", "open_sink", "send"]

# By name: the file here that has it, and the packages that it needs.
SINKS: dict[str, tuple[str, str]] = {
    "tensorboard": ("client.sinks.to_tensorboard", "tensorboard"),
    "wandb": ("client.sinks.to_wandb", "wandb"),
    "mlflow": ("client.sinks.to_mlflow", "mlflow"),
}


def open_sink(name: str, **options: Any) -> Sink:
    """The sink of that name.

    Raises:
        ClientError: when there is none, or its package is not installed.
    """
    if name not in SINKS:
        raise ClientError(f"--to is {name!r}, but it is one of {', '.join(SINKS)}; choose one")
    module, extra = SINKS[name]
    try:
        make: Callable[..., Sink] = import_module(module).make
    except ModuleNotFoundError as error:
        raise ClientError(f"{error.name} is not installed; pip install 'natlab[{extra}]'") from None
    return make(**options)


def send(sink: Sink, run: RunInfo, events: Iterable[AnyEvent]) -> int:
    """Write a run's values to a sink, in order; returns how many events had some.

    Raises:
        ClientError: when the run is there already.
    """
    sink.begin(run)
    sent, outcome = 0, "stopped"
    try:
        for event in events:
            if isinstance(event, StateEvent) and event.phase == "ended":
                outcome = event.outcome or outcome
            if values := values_of(event):
                sink.write(values, event.step, event.time)
                sent += 1
    finally:
        sink.end(outcome)
    return sent
