"""A trained model leaves natlab as a plain folder whose numbers are the trained policy's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nat_core.checkpoint import Training, save_checkpoint
from nat_core.checkpoint_folder import list_checkpoints
from nat_core.errors import CheckpointError, SpecError
from nat_core.export import export, main
from nat_core.model import DEMO_DIR, Policy, load_policy
from nat_core.optim import build_optimizer, build_schedule
from nat_core.spec import ModelSpec, OptimSpec, ResourcesSpec
from nat_core.token_selection import GradientMass

IDS = torch.tensor([[5, 6, 7, 8, 9]])
MODELS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "LoRA": {"lora": {"r": 4}},
    "QLoRA": {"lora": {"r": 4, "quantize": "nf4"}},
}


def trained_run(folder: Path, kind: str, steps: tuple[int, ...] = (2,)) -> Policy:
    """A run's folder with checkpoints of a policy whose trained weights have moved."""
    policy = load_policy(ModelSpec.model_validate(MODELS[kind]), ResourcesSpec(device="cpu"))
    optimizer = build_optimizer(policy.parameters, OptimSpec())
    schedule = build_schedule(optimizer, OptimSpec(), 10)
    generator = torch.Generator().manual_seed(0)
    for step in steps:
        with torch.no_grad():
            for weight in policy.parameters:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
        training = Training(policy, optimizer, schedule, generator, GradientMass())
        save_checkpoint(folder / "checkpoints", training, step=step, keep=5)
    return policy


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_a_plain_folder_has_the_trained_policy_s_numbers(kind: str, tmp_path: Path) -> None:
    policy = trained_run(tmp_path / "run", kind)
    done = export(tmp_path / "run", tmp_path / "out" / "model")
    assert (done.kind, done.step, done.notes) == ("model", 2, [])
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    assert type(model).__name__ == "Qwen3ForCausalLM" and model.dtype == torch.float32
    assert "quantization_config" not in json.loads((Path(done.folder) / "config.json").read_text())
    assert torch.allclose(logits(model), logits(policy.model), atol=1e-4)
    untrained = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    assert not torch.allclose(logits(model), logits(untrained), atol=0.1)
    assert set(model.generation_config.eos_token_id) == policy.eos_ids
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    assert tokenizer.encode("7a+5:") == policy.tokenizer.encode("7a+5:")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]  # nothing half-written beside it
    (tmp_path / "plain").touch()
    assert {file.stat().st_mode for file in Path(done.folder).iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_adapters_may_stay_what_they_are(tmp_path: Path) -> None:
    policy = trained_run(tmp_path / "run", "LoRA")
    done = export(tmp_path / "run", tmp_path / "adapter", as_adapter=True)
    assert done.kind == "adapter" and done.size_bytes < 500_000
    base = AutoModelForCausalLM.from_pretrained(DEMO_DIR, dtype=torch.float32)
    assert torch.allclose(logits(peft.PeftModel.from_pretrained(base, done.folder)), logits(policy.model), atol=1e-4)
    trained_run(tmp_path / "whole", "all weights")
    with pytest.raises(SpecError, match="has no adapters"):
        export(tmp_path / "whole", tmp_path / "none", as_adapter=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["all weights", "LoRA"])
def test_weights_may_be_written_in_half_the_size(kind: str, tmp_path: Path) -> None:
    policy = trained_run(tmp_path / "run", kind)
    done = export(tmp_path / "run", tmp_path / "model", dtype="bfloat16")
    model = AutoModelForCausalLM.from_pretrained(done.folder)
    assert model.dtype == torch.bfloat16 and done.size_bytes < 2_000_000
    assert torch.allclose(logits(model).float(), logits(policy.model), atol=0.5)


def test_a_step_or_a_checkpoint_may_be_named_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained_run(run, "all weights", steps=(1, 2))
    assert export(run, tmp_path / "one", step=1).step == 1
    assert export(run / "checkpoints" / "step-00000001", tmp_path / "same").step == 1
    (list_checkpoints(run / "checkpoints")[-1] / "model" / "config.json").write_text("{}")
    done = export(run, tmp_path / "newest")
    assert done.step == 1 and len(done.notes) == 1 and "step-00000002 is damaged" in done.notes[0]
    with pytest.raises(CheckpointError, match=r"no whole checkpoint .*step-00000002 is damaged"):
        export(run, tmp_path / "two", step=2)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7; there are those of 1, 2"):
        export(run, tmp_path / "seven", step=7)
    with pytest.raises(CheckpointError, match="give a run's folder, or a checkpoint's"):
        export(tmp_path, tmp_path / "three")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "one", "same", "newest"}


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained_run(tmp_path / "run", "all weights")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main([str(tmp_path / "run"), str(tmp_path / "mine")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    shutil.rmtree(tmp_path / "mine")
    assert main([str(tmp_path / "run"), str(tmp_path / "mine")]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "mine")


def test_what_needs_no_torch_is_done_or_refused_without_it(tmp_path: Path) -> None:
    trained_run(tmp_path / "run", "all weights")
    program = (
        "import sys\n"
        "from nat_core.export import main\n"
        "for arguments in (['--help'], [sys.argv[1], sys.argv[1]], [sys.argv[2], 'new'], [sys.argv[1], sys.argv[3]]):\n"
        "    try:\n"
        "        print(main(arguments))\n"
        "    except SystemExit as end:\n"
        "        print(end.code)\n"
        "    assert 'torch' not in sys.modules, arguments\n"
    )
    argv = [sys.executable, "-c", program, *(str(tmp_path / name) for name in ("run", "none", "copy"))]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if line in ("0", "2")] == ["0", "2", "2", "0"], done.stderr
    assert (tmp_path / "copy" / "config.json").is_file()
