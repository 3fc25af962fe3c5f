"""A trained model as a plain folder: `python -m nat_core.export RUN_OR_CHECKPOINT FOLDER`.

What `AutoModelForCausalLM`, vLLM and everything else that reads Hugging Face folders load: weights, configuration,
tokenizer. Adapters are added to the weights that they were trained beside, those that 4 bits stand for where the run
had 4 bits; or they are left what they are, for peft. The folder is there whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nat_core.checkpoint_folder import fsync, list_checkpoints, verify_checkpoint
from nat_core.errors import CheckpointError, DiskError, NatlabError, SpecError

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Exported:
    """What was written, and from where.

    Attributes:
        kind: `model`, or `adapter` where it needs the model that it was trained beside.
        notes: what is worth knowing, each in a sentence.
    """

    folder: str
    checkpoint: str
    step: int
    kind: str
    size_bytes: int
    notes: list[str]


def export(
    source: Path, folder: Path, *, step: int | None = None, as_adapter: bool = False, dtype: str = "float32"
) -> Exported:
    """Write the model of a run's newest whole checkpoint, or of the one after `step` steps.

    Args:
        source: a run's folder, or a checkpoint's.
        folder: where to; not there yet, or empty.
        as_adapter: leave adapters what they are.
        dtype: of the weights written.

    Raises:
        SpecError: `folder` is taken, or the run has no adapters to leave as they are.
        CheckpointError: there is no whole checkpoint.
        ModelError: the model that adapters belong to cannot be loaded.
        DiskError: it cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SpecError(f"{folder} is there already; choose another folder, or remove it")
    checkpoint, notes = find_checkpoint(source, step)
    has_adapter = (checkpoint / "model" / "adapter_config.json").is_file()
    if as_adapter and not has_adapter:
        raise SpecError(f"{checkpoint} has no adapters, since every weight was trained; leave --adapter out")
    as_it_is = as_adapter or (dtype == "float32" and not has_adapter)
    if not as_it_is:
        from nat_core.plain_model import write_model  # torch takes seconds to load; what is wrong is known by now
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        if as_it_is:
            shutil.copytree(checkpoint / "model", partial, dirs_exist_ok=True)
        else:
            write_model(checkpoint, partial, dtype)
        size = _bring_to_disk(partial)
        partial.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise DiskError(
            f"{folder} cannot be written ({reason}); choose another place or free some disk space"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    kind = "adapter" if as_adapter else "model"
    return Exported(str(folder), str(checkpoint), int(checkpoint.name.removeprefix("step-")), kind, size, notes)


def find_checkpoint(source: Path, step: int | None = None) -> tuple[Path, list[str]]:
    """The checkpoint to take, whole, and what is wrong with newer ones.

    Raises:
        CheckpointError: there is none.
    """
    if (source / "manifest.json").is_file():
        verify_checkpoint(source)
        return source, []
    there = list_checkpoints(source / "checkpoints", damaged=True)
    wanted = [path for path in there if step is None or path.name == f"step-{step:08d}"]
    notes: list[str] = []
    for path in reversed(wanted):
        try:
            verify_checkpoint(path)
            return path, notes
        except CheckpointError as error:
            notes.append(error.message.removesuffix("; use an earlier one"))
    if notes:
        raise CheckpointError(f"{source} has no whole checkpoint to export: {notes[0]}")
    listed = ", ".join(str(int(path.name.removeprefix("step-"))) for path in there)
    of_step = f" of step {step}; there are those of {listed}" if there else "; give a run's folder, or a checkpoint's"
    raise CheckpointError(f"{source} has no checkpoint{of_step}")


def _bring_to_disk(folder: Path) -> int:
    """Fsync every file and the folder; the size of all in bytes. Weights are as readable as other files.

    safetensors lets the owner alone read what it writes; who serves the model is often somebody else.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    masked = os.umask(0)
    os.umask(masked)
    for file in files:
        file.chmod(0o666 & ~masked)
    for path in (*files, folder):
        fsync(path)
    return sum(file.stat().st_size for file in files)


def main(arguments: list[str] | None = None) -> int:
    """Export as the arguments say; prints what was written as JSON. 0, or 2 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m nat_core.export", description="Write a trained model as a folder.")
    parser.add_argument("source", type=Path, help="a run's folder, or a checkpoint's")
    parser.add_argument("folder", type=Path, help="where to; must not be there yet")
    parser.add_argument("--step", type=int, help="of this step's checkpoint; the newest whole one's when not given")
    parser.add_argument("--adapter", action="store_true", help="leave adapters what they are, for peft")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the weights written")
    options = parser.parse_args(arguments)
    try:
        done = export(
            options.source, options.folder, step=options.step, as_adapter=options.adapter, dtype=options.dtype
        )
    except NatlabError as error:
        print(f"natlab: {error.message}", file=sys.stderr)
        return 2
    print(json.dumps(asdict(done)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
