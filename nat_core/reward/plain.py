"""Verifiers that cost nothing: exact match, format, length.

But for patterns of the spec's own: some take longer than the universe has time on a text that nearly fits.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from nat_core.reward.sample import Sample, Verdict, Verifier
from nat_core.spec import ExactMatch, FormatReward, LengthReward

_MOST_DIGITS = 400  # of a number that is written out: an exponent may ask for more than memory holds


def exact_match(spec: ExactMatch) -> Verifier:
    """1 where the last match of the pattern is the reference's."""
    pattern = re.compile(spec.answer_pattern)

    def verify(sample: Sample) -> Verdict:
        reference = last_match(pattern, sample.answer)
        given = last_match(pattern, sample.completion)
        if given is None:
            return Verdict(0.0)
        answer = normalised(given)
        return Verdict(float(answer == normalised(sample.answer if reference is None else reference)), answer)

    return verify


def has_own_pattern(spec: ExactMatch) -> bool:
    """Whether the spec brings a pattern of which nobody knows how long it takes."""
    return spec.answer_pattern != ExactMatch().answer_pattern


def has_format(spec: FormatReward) -> Verifier:
    """1 where the pattern is found."""
    pattern = re.compile(spec.pattern, re.DOTALL)
    return lambda sample: Verdict(float(pattern.search(sample.completion) is not None))


def has_length(spec: LengthReward) -> Verifier:
    """1 up to `free` tokens, 0 from `limit` on."""
    span = spec.limit - spec.free
    return lambda sample: Verdict(min(1.0, max(0.0, (spec.limit - sample.num_tokens) / span)))


def last_match(pattern: re.Pattern[str], text: str) -> str | None:
    """First group of the pattern's last match."""
    last = None
    for match in pattern.finditer(text):
        last = match.group(1)
    return last


def normalised(answer: str) -> str:
    """Drop what does not change a number: spaces, thousands separators, currency and a final full stop."""
    text = answer.strip().replace(",", "").replace("$", "").rstrip(".").strip()
    try:
        number = Decimal(text)  # exact, however many digits there are
    except InvalidOperation:
        return text
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return text
    plain = format(number, "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain == "-0" else plain
