"""Run one spec: `python -m nat_core SPEC --output DIR`.

Exit status: 0 succeeded, 1 failed, 2 the spec is wrong, 3 stopped by SIGTERM or SIGINT, 4 the disk took no more.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from nat_core.errors import SpecError
from nat_core.launch import is_a_rank, launch, leads
from nat_core.lifeline import die_with_parent, die_with_stdin
from nat_core.loading import load
from nat_core.preflight import check_engine, check_run
from nat_core.reward.custom import ALLOWED
from nat_core.spec import RunSpec, load_document, parse_run_spec, set_field

EXIT_STATUS = {"succeeded": 0, "failed": 1, "stopped": 3}
EXIT_BAD_SPEC = 2
EXIT_DISK = 4
_TOLD_TO_END = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the arguments say, the command line's unless given; the exit status."""
    options = _parser().parse_args(arguments)
    if options.supervised:
        die_with_parent()
        die_with_stdin()
    os.environ[ALLOWED] = ",".join([*options.allow_reward, os.environ.get(ALLOWED, "")])
    stop = threading.Event()
    for number in _TOLD_TO_END:
        signal.signal(number, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD_TO_END)  # one that waited while a spare trainer loaded comes now
    try:
        spec = _read(options.spec, options.set)
    except SpecError as error:
        print(f"natlab: {error.message}", file=sys.stderr)
        return EXIT_BAD_SPEC
    taken = _taken(options) if leads() else None
    if taken is not None:
        print(f"natlab: --output is {options.output}, {taken}", file=sys.stderr)
        return EXIT_BAD_SPEC

    if (spec.resources.gpus or 0) > 1 and not is_a_rank():
        return launch(spec.resources.gpus or 0, sys.argv[1:] if arguments is None else arguments, stop.is_set)
    load()  # torch, after the spec is known to be good
    return _train(spec, options, stop.is_set)


def _train(spec: RunSpec, options: argparse.Namespace, should_stop: Callable[[], bool]) -> int:
    from nat_core.ranks import Deserted, join
    from nat_core.trainer import Trainer

    try:
        ranks = join(spec.resources)
        result = Trainer(spec, options.output, should_stop=should_stop, resume=options.resume, ranks=ranks).train()
    except SpecError as error:
        print(f"natlab: {error.message}", file=sys.stderr)
        return EXIT_BAD_SPEC
    except Deserted as error:
        print(f"natlab: {error}", file=sys.stderr)
        return EXIT_STATUS["failed"]
    if result.message:
        with contextlib.suppress(OSError):  # a full disk takes no log line either: the exit status has to do
            print(f"natlab: {result.message}", file=sys.stderr)
    if result.outcome != "failed":
        ranks.leave()
    return EXIT_DISK if result.reason == "disk" else EXIT_STATUS[result.outcome]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nat_core", description="Train one spec.")
    parser.add_argument("spec", type=Path, help="YAML or JSON file with a run spec")
    parser.add_argument("--output", type=Path, required=True, help="folder for events.jsonl and checkpoints")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field")
    parser.add_argument(
        "--allow-reward",
        action="append",
        default=[],
        metavar="MODULE[:FUNCTION]",
        help=f"let a spec of type custom use these functions, besides those in {ALLOWED}",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the folder")
    parser.add_argument(
        "--supervised",
        action="store_true",
        help="end when the parent process dies or closes standard input; the parent sees that no two use one folder",
    )
    return parser


def _read(path: Path, assignments: list[str]) -> RunSpec:
    document = load_document(path)
    for assignment in assignments:
        set_field(document, assignment)
    spec = parse_run_spec(document, f"spec {path}")
    check_run(spec)
    check_engine(spec.rollout)
    return spec


def _taken(options: argparse.Namespace) -> str | None:
    """Why the folder cannot be this run's; None where it can."""
    if not options.supervised and not _hold(options.output):
        return "where another trainer runs; choose another"
    # Beside checkpoints of more steps this run's own would be the oldest: deleted as soon as they are written.
    if not options.resume and any((options.output / "checkpoints").glob("step-*")):
        return "which holds a run's checkpoints; add --resume to go on from them, or choose another"
    return None


def _hold(folder: Path) -> bool:
    """Lock the folder until this process ends; false where another trainer holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fcntl.flock(os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
