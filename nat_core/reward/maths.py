"""Mathematical answers: found in `\\boxed{}` or after `####`, compared as numbers, as text, then by math-verify.

The first two comparisons settle nearly all answers of school mathematics in microseconds; what they
cannot settle goes to math-verify (sympy), whose own time limits need signals and are switched off:
this runs in a process that is killed when it takes too long.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import Any

from nat_core.data.library import library
from nat_core.reward.sample import Sample, Verdict, Verifier
from nat_core.spec import MathVerify

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{|\\boxed\s+(?=[^\s{])")
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")
_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle)(?![A-Za-z])|[\s$]")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")


def math_verify(spec: MathVerify) -> Verifier:
    """1 where the completion's final answer equals the reference's."""
    library("math_verify", "reward.type math_verify")
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it would warn that its own time limits are off

    def verify(sample: Sample) -> Verdict:
        given = final_answer(sample.completion)
        if given is None and spec.anchored:
            return Verdict(0.0)
        reference = reference_answer(sample.answer)
        if given is not None:
            return Verdict(float(same_answer(given, reference)), tidy(given))
        last = _parsed(sample.completion)  # the last expression of the text, as math-verify finds it
        if not last:
            return Verdict(0.0)
        return Verdict(float(_equal(_parsed(_as_latex(reference)), last)), str(last[-1]))

    return verify


def final_answer(text: str) -> str | None:
    """What stands in the last `\\boxed{}` or after the last `####`, whichever comes later; None without either."""
    found: list[tuple[int, str]] = []
    boxes = list(_BOXED.finditer(text))
    if boxes:
        found.append((boxes[-1].start(), _content(text, boxes[-1])))
    hashes = list(_HASHES.finditer(text))
    if hashes:
        found.append((hashes[-1].start(), hashes[-1].group(1)))
    answer = max(found, default=(0, ""))[1].strip()
    return answer or None


def reference_answer(answer: str) -> str:
    """The reference's final answer; the whole of it where it marks none."""
    return final_answer(answer) or answer.strip()


def same_answer(given: str, reference: str) -> bool:
    """Whether two answers are the same number, the same text, or mathematically equal."""
    left, right = number(given), number(reference)
    if left is not None and right is not None:
        return left == right
    if tidy(given) == tidy(reference):
        return True
    return _equal(_parsed(_as_latex(reference)), _parsed(_as_latex(given)))


def number(text: str) -> Fraction | None:
    """The value of a plain decimal number, currency and thousands separators aside; None for anything else."""
    plain = tidy(text)
    if not _NUMBER.fullmatch(plain) or not any(map(str.isdigit, plain)):
        return None
    return Fraction(plain.replace(",", ""))


def tidy(text: str) -> str:
    """Drop what says nothing: spacing, `$`, `\\left`, a final full stop; `\\dfrac` is `\\frac`, `\\text{a}` is `a`."""
    plain = text.replace("\\$", "").replace("\\%", "%")
    plain = _WRAPPED.sub(r"\1", plain)
    plain = _FRACTION.sub(r"\\frac", plain)
    return _SPACING.sub("", plain).rstrip(".")


def _content(text: str, opening: re.Match[str]) -> str:
    """What a box holds: to its closing brace, or to the end where that is missing; a bare `\\boxed 5` holds a word."""
    start = opening.end()
    if not opening.group().endswith("{"):
        return re.split(r"[\s$]", text[start:], maxsplit=1)[0]
    depth = 1
    for place in range(start, len(text)):
        character = text[place]
        if character in "{}" and text[place - 1] != "\\":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start:place]
    return text[start:]


def _as_latex(answer: str) -> str:
    bare = answer.strip().strip("$").rstrip(".")
    return f"\\boxed{{{bare}}}"


def _parsed(text: str) -> list[Any]:
    parsed: list[Any] = library("math_verify", "reward.type math_verify").parse(text, parsing_timeout=None)
    return parsed


def _equal(reference: list[Any], given: list[Any]) -> bool:
    return bool(library("math_verify", "reward.type math_verify").verify(reference, given, timeout_seconds=None))
