"""What can be checked of a run before it starts: that its model and data are there and readable.

No torch here: the server asks this before it stores an experiment, the command line before it
starts a trainer, the trainer once more before it loads anything.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nat_core.data import check_data
from nat_core.errors import Fault, ModelError, SpecError
from nat_core.spec import ExperimentSpec, ModelSpec, RolloutSpec, RunSpec

DEMO_MODEL = "demo"
ALLOWED_VLLM_SERVERS = "NATLAB_ALLOWED_VLLM_SERVERS"
"""Environment variable of the worker: addresses of `vllm serve`, separated by commas."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def check_run(spec: RunSpec) -> None:
    """Raise what would keep this run from starting.

    Raises:
        SpecError: a micro-batch is smaller than the longest completion may be, or the model cannot be trained on so
            many GPUs.
        ModelError: the model's path is no directory with a config, and no hub id.
        DataError: a data file is missing, empty or has a broken row, or a hub id is none. Prompts are measured once
            there is a tokenizer, by the trainer before its first step.
    """
    check_microbatch(spec)
    check_several(spec, spec.resources.gpus or 1)
    check_model(spec.model)
    check_data(spec.data, spec.evaluation.num_prompts)
    for name, part in spec.evaluation.sets.items():
        check_data(part.data, part.num_prompts, f"evaluation.sets.{name}.data", questions=True)


def check_experiment(spec: ExperimentSpec) -> None:
    """`check_run` for an experiment; pointers start at `/base`, where its runs are described."""
    try:
        check_run(spec.base)
    except SpecError as error:
        error.faults = [Fault(f"/base{fault.pointer}", fault.detail) for fault in error.faults]
        raise


def check_microbatch(spec: RunSpec) -> None:
    """A row is never split: the longest that the rollout allows must fit into a micro-batch.

    Raises:
        SpecError: it does not.
    """
    cap, rollout = spec.resources.max_tokens_per_microbatch, spec.rollout
    longest = rollout.max_prompt_length + rollout.max_completion_length
    if spec.resources.per_device_train_batch_size is None and cap < longest:
        raise SpecError.at(
            "/resources/max_tokens_per_microbatch",
            f"resources.max_tokens_per_microbatch is {cap}, but one completion with its prompt may have {longest} "
            f"tokens (rollout.max_prompt_length {rollout.max_prompt_length} + max_completion_length "
            f"{rollout.max_completion_length}); raise it or lower those",
        )


def check_engine(rollout: RolloutSpec, env: Mapping[str, str] = os.environ) -> None:
    """What only the machine that trains can say: whether its rollout engine is there, and may be asked.

    Raises:
        SpecError: vLLM is not installed, or the operator has not allowed the `vllm serve`.
    """
    if rollout.engine != "vllm":
        return
    url = rollout.vllm_server_base_url
    if url is not None:
        allowed = [entry.strip().rstrip("/") for entry in env.get(ALLOWED_VLLM_SERVERS, "").split(",") if entry.strip()]
        if url.rstrip("/") not in allowed:
            raise SpecError.at(
                "/rollout/vllm_server_base_url",
                f"rollout.vllm_server_base_url is {url}, but this worker's {ALLOWED_VLLM_SERVERS} allows "
                f"{', '.join(allowed) or 'none'}; have its operator add it there",
            )
    by_disk = rollout.vllm_mode == "server" and rollout.vllm_weight_sync == "disk"  # HTTP and files will do
    if not by_disk and importlib.util.find_spec("vllm") is None:
        raise SpecError.at(
            "/rollout/engine",
            "rollout.engine is vllm, but vLLM is not installed where this run trains; pip install 'natlab[vllm]' "
            "there, or use hf",
        )


def check_several(spec: RunSpec, size: int) -> None:
    """Whether a run can be trained by so many processes.

    Raises:
        SpecError: it cannot.
    """
    if size == 1:
        return
    for field, value, what in (
        ("model.lora.r", spec.model.lora.r, "adapters are trained on one GPU"),
        ("rollout.engine", spec.rollout.engine if spec.rollout.engine != "hf" else None, "vLLM serves one GPU's run"),
    ):
        if value is not None:
            detail = f"resources.gpus is {size}, but {field} is {value}, and {what}; set resources.gpus to 1"
            raise SpecError.at("/resources/gpus", detail)


def check_model(spec: ModelSpec) -> None:
    """Raise a `ModelError` unless `spec.path` is `demo`, a model directory or a hub id."""
    if spec.path == DEMO_MODEL:
        return
    try:
        directory = Path(spec.path).expanduser()
        is_directory, in_directory = directory.is_dir(), directory.parent.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, a home that is nobody's
        raise _model_error(f"model.path is {spec.path[:100]!r}, but that is no path ({error}); correct it") from None
    if is_directory:
        if not (directory / "config.json").is_file():
            raise _model_error(
                f"model.path {spec.path} is a directory without config.json, but transformers needs one; "
                "point to the folder that save_pretrained wrote"
            )
    elif not _HUB_ID.fullmatch(spec.path) or spec.path.startswith(".") or in_directory:
        raise _model_error(
            f"model.path is {spec.path}, but there is no such directory; give `demo`, a model directory or a hub id "
            "owner/name"
        )


def _model_error(detail: str) -> ModelError:
    return ModelError(detail, [Fault("/model/path", detail)])
