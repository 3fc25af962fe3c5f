"""A process that scores: `python -m nat_core.reward.worker`, JSON lines on its standard input and output.

The first line is the reward's spec, the answer to it `{"ready": true}`, or `{"refused": …}`. Then one
sample a line, and one verdict for each. It may be killed at any time; it holds nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

from pydantic import TypeAdapter

from nat_core.errors import SpecError
from nat_core.lifeline import die_with_parent
from nat_core.reward.sample import Sample, Verifier
from nat_core.reward.table import VERIFIERS
from nat_core.spec import SingleReward

_MATHS_MEMORY = 4 * 1024**3  # bytes; a tower of powers would take all there is


def main() -> int:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle: it still wants its answers
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a reward function may print

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        verify = _build(sys.stdin.readline())
    except SpecError as error:
        reply({"refused": error.message, "pointer": error.faults[0].pointer if error.faults else "/reward"})
        return 1
    reply({"ready": True})
    for line in sys.stdin:
        reply(_answer(verify, line))
    return 0


def _build(line: str) -> Verifier:
    spec = TypeAdapter[Any](SingleReward).validate_json(line)
    if spec.type == "math_verify":
        sys.set_int_max_str_digits(0)  # a completion may be digits alone; the time limit is what bounds that
        with contextlib.suppress(ValueError, OSError):  # a lower limit holds already
            resource.setrlimit(resource.RLIMIT_AS, (_MATHS_MEMORY, _MATHS_MEMORY))
    return VERIFIERS[spec.type].build(spec)


def _answer(verify: Verifier, line: str) -> dict[str, Any]:
    try:
        verdict = verify(Sample(**json.loads(line)))
    except Exception as error:  # a verifier is foreign code; whatever it raises must name its sample
        return {"error": f"{type(error).__name__}: {error}"}
    return {"reward": verdict.reward, "answer": verdict.answer}


if __name__ == "__main__":
    sys.exit(main())
