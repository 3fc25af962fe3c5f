"""What server and worker say of themselves: one line a record, with run and attempt, as text or as JSON.

Names and messages come from outside, so a record cannot break its line or steer a terminal, and
what must stay secret is blotted out wherever it turns up.

    log.warning("no such attempt", extra=about(run_id, attempt))
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

_ABOUT = ("run", "attempt")
_QUIET = ("alembic", "celery", "httpx", "kombu")


def about(run_id: str, attempt: int | None = None) -> dict[str, Any]:
    """What a record concerns, as `extra=` of a logging call."""
    return {"run": run_id} if attempt is None else {"run": run_id, "attempt": attempt}


class Lines(logging.Formatter):
    """One record, one line; a traceback follows indented, so that no line of it passes for a record."""

    def __init__(self, as_json: bool = False, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._as_json = as_json
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        concerns = {name: getattr(record, name) for name in _ABOUT if hasattr(record, name)}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        line = self._json(record, concerns, trace) if self._as_json else self._text(record, concerns, trace)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    def _text(self, record: logging.LogRecord, concerns: dict[str, Any], trace: str) -> str:
        parts = [f"{_utc(record)} {record.levelname.lower():7} {record.name}", _one_line(record.getMessage())]
        parts += [f"{name}={_one_line(str(value))}" for name, value in concerns.items()]
        return " ".join(parts) + "".join(f"\n    {without_controls(line)}" for line in trace.splitlines())

    def _json(self, record: logging.LogRecord, concerns: dict[str, Any], trace: str) -> str:
        fields = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **concerns,
            **({"traceback": trace} if trace else {}),
        }
        return json.dumps(fields)  # ASCII: every control character is spelled out


def set_up(as_json: bool = False, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send every record of this process to stderr, formatted so."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(as_json, secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in _QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _one_line(text: str) -> str:
    return without_controls(text).replace("\n", "\\n").replace("\t", "\\t")


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def without_controls(text: str) -> str:
    """Text that cannot steer a terminal: control characters but newline and tab are spelled out."""
    return "".join(
        char if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f") else f"\\x{ord(char):02x}"
        for char in text
    )
