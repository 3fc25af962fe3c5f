"""Numbers, times and intervals as the pages write them: true minus signs, units, no false precision."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from nat_core.comparison import Estimate

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EM DASH}"
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def number(value: float | None, digits: int = 1) -> str:
    """`1,234.5`, with a true minus sign; a dash for what is not known."""
    if value is None:
        return NOTHING
    text = f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """As `number`, with a plus sign where above zero."""
    text = number(value, digits)
    return f"+{text}" if value is not None and float(text.replace(",", "").replace(MINUS, "-")) > 0 else text


def significant(value: float | None, digits: int = 3) -> str:
    """`digits` significant figures with their ending zeros, so that columns align; exponents only at the extremes."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    size = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return number(value, size)


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0 to 1 as per cent; exactly 1 has no decimals."""
    if share is None:
        return NOTHING
    return "100%" if share == 1 else f"{number(100 * share, digits)}%"


def points(share: float | None) -> str:
    """A difference of shares in percentage points, signed."""
    return signed(None if share is None else 100 * share, 1)


def count(value: float | None) -> str:
    """A count in three figures: `950`, `12.3k`, `8.10M`, `1.20P`."""
    if value is None:
        return NOTHING
    for size, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            scaled = value / size
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{number(scaled, digits)}{suffix}"
    return number(value, 0)


def clock(seconds: float | None) -> str:
    """A duration as `0:35`, `12:05` or `1:02:03`."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def duration(seconds: float | None) -> str:
    """A duration in words: `41 s`, `38 min`, `2 h 5 min`."""
    if seconds is None:
        return NOTHING
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in words."""
    if moment is None:
        return NOTHING
    seconds = elapsed_s(moment, now or datetime.now(UTC))
    if seconds < 5:
        return "just now"
    if seconds < 48 * 3600:
        return f"{duration(seconds)} ago"
    return moment.strftime("%-d %b %Y")


def moment(when: datetime, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    """A moment as a date and a time in UTC."""
    return _aware(when).astimezone(UTC).strftime(form)


def elapsed_s(start: datetime, end: datetime) -> float:
    """Seconds from start to end; a time without a zone is UTC."""
    return (_aware(end) - _aware(start)).total_seconds()


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def interval(estimate: Estimate | None, scale: float = 1, digits: int = 1, sign: bool = False) -> str:
    """The bounds as `[−0.9, +0.3]`; empty where they are not known."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    shown = signed if sign else number
    return f"[{shown(scale * estimate.low, digits)}, {shown(scale * estimate.high, digits)}]"


def plus_minus(estimate: Estimate | None, scale: float = 1, digits: int = 1) -> str:
    """Half the interval's width as `±1.2`; empty where it is not known."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"±{number(scale * (estimate.high - estimate.low) / 2, digits)}"


def change(saving: float | None, digits: int = 0) -> str:
    """A saving of 0.46 as `−46%`: 46% less. Negative savings read `+12%`: 12% more."""
    return NOTHING if saving is None else f"{signed(-100 * saving, digits)}%"


def sentence(text: str) -> str:
    """A message as a sentence: a capital at its start, a full stop at its end."""
    stripped = text.strip()
    ended = stripped if stripped.endswith((".", "!", "?", "…")) else stripped + "."
    return ended[0].upper() + ended[1:]


def uncapital(label: str) -> str:
    """A label inside a sentence: `Reward` becomes `reward`, `KL` stays."""
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def plural(amount: int, noun: str, nouns: str | None = None) -> str:
    """`1 run`, `2 runs`."""
    return f"{amount:,} {noun if amount == 1 else nouns or noun + 's'}"


def file_size(size: int) -> str:
    """`1.62 MiB`, `512 B`."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{significant(value)} {_SIZES[unit]}"
