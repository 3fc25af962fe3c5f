"""Whether references verify and near misses do not, on whole data sets: `python -m bench.rewards`.

For every row of GSM8K and MATH-500 two completions are scored with `math_verify`: the row's own solution, which has to
be right, and its final answer changed (`perturbed`), which has to be wrong. Each one that comes out otherwise is listed
with its reason. The sets are looked for in `NATLAB_DATA_DIR`, or where `--data` says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nat_core.reward import Sample, Scorer
from nat_core.reward.maths import final_answer, reference_answer
from nat_core.spec import MathVerify
from nat_core.version import __version__

LIMITS = {"gsm8k": 0.0, "math500": 0.01}
"""The largest share of a set's rows that may come out otherwise."""


@dataclass(frozen=True)
class WholeSet:
    """One file: how its rows hold problem, solution and reference answer."""

    name: str
    file: str
    problem: str
    solution: str
    answer: str

    @property
    def limit(self) -> float:
        return LIMITS[self.name.partition("/")[0]]

    def rows(self, folder: Path) -> Iterator[tuple[str, str, str]]:
        for line in (folder / self.file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row[self.problem], row[self.solution], row[self.answer]


SETS = (
    WholeSet("gsm8k/train", "gsm8k/train.jsonl", "question", "answer", "answer"),
    WholeSet("gsm8k/test", "gsm8k/test.jsonl", "question", "answer", "answer"),
    WholeSet("math500", "math500/test.jsonl", "problem", "solution", "answer"),
)


def perturbed(answer: str) -> str:
    """A near miss: the answer's first number one larger; without numbers another word, or one more."""
    first = re.search(r"\d+", answer)
    if first is not None:
        digits = first.group()
        return answer[: first.start()] + str(int(digits) + 1).zfill(len(digits)) + answer[first.end() :]
    if "\\text" in answer:
        return re.sub(r"\\text\{[^{}]*\}", r"\\text{other}", answer)
    return f"{answer} + 1"


def verify_set(rows: Sequence[tuple[str, str, str]], scorer: Scorer) -> list[dict[str, str]]:
    """What comes out otherwise than it should, each with its reason."""
    right = [Sample(problem, solution, answer) for problem, solution, answer in rows]
    wrong = [
        Sample(problem, f"\\boxed{{{perturbed(reference_answer(answer))}}}", answer) for problem, _, answer in rows
    ]
    found = []
    for expected, samples in ((True, right), (False, wrong)):
        for sample, score in zip(samples, scorer.score(samples), strict=True):
            if score.correct != expected:
                found.append(_told(sample, expected))
    return found


def _told(sample: Sample, expected: bool) -> dict[str, str]:
    given, reference = final_answer(sample.completion), reference_answer(sample.answer)
    if given is None:
        reason = "the solution marks no answer"
    elif expected:
        reason = "the two are not found equal"
    else:
        reason = "the two are found equal"
    return {
        "problem": sample.prompt,
        "given": str(given),
        "reference": reference,
        "expected": "right" if expected else "wrong",
        "reason": reason,
    }


def report_on(folder: Path, scorer: Scorer) -> dict[str, Any]:
    """The whole report."""
    sets = []
    for whole in SETS:
        rows = list(whole.rows(folder))
        started = time.monotonic()
        exceptions = verify_set(rows, scorer)
        sets.append(
            {
                "set": whole.name,
                "rows": len(rows),
                "completions": 2 * len(rows),
                "exceptions": exceptions,
                "limit": whole.limit,
                "kept": len(exceptions) <= whole.limit * len(rows),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
    return {
        "command": "python -m bench.rewards",
        "versions": {
            "natlab": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("math-verify", "sympy")},
        },
        "cores": os.cpu_count(),
        "sets": sets,
    }


def show(report: dict[str, Any]) -> None:
    """Print the table, and every exception."""
    console = Console(width=120)
    table = Table("set", "rows", "exceptions", "allowed", "seconds", box=None)
    for row in report["sets"]:
        allowed = f"{row['limit']:.0%}{'' if row['kept'] else ' (not kept)'}"
        table.add_row(row["set"], f"{row['rows']:,}", str(len(row["exceptions"])), allowed, f"{row['seconds']:.1f}")
    console.print(table)
    for row in report["sets"]:
        for found in row["exceptions"]:
            text = f"{row['set']}: {found['given']} against {found['reference']} should be {found['expected']}: "
            console.print(text + found["reason"], markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rewards", description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("NATLAB_DATA_DIR", "../shared/data")))
    parser.add_argument("--json", type=Path, help="write the report there")
    options = parser.parse_args()
    scorer = Scorer(MathVerify(), lambda warning: print(warning, file=sys.stderr))
    try:
        report = report_on(options.data, scorer)
    finally:
        scorer.close()
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(row["kept"] for row in report["sets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
