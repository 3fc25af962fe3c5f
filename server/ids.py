"""Identifiers that sort by the time they were made: `exp-` or `run-` and ten base-32 characters."""

from __future__ import annotations

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: ordered, and without i, l, o and u
_EPOCH_S = 1_577_836_800  # 2020: 42 bits of milliseconds then last until 2159
_RANDOM_BITS = 8

_lock = threading.Lock()
_last = 0


def go_on_after(identifier: str) -> None:
    """Let every fresh identifier be above this one, though the clock may have been set back since it was made."""
    global _last
    value = 0
    for char in identifier.partition("-")[2]:
        if char not in _ALPHABET:
            return  # none of ours
        value = value << 5 | _ALPHABET.index(char)
    with _lock:
        _last = max(_last, value)


def new_id(prefix: str) -> str:
    """A fresh identifier, above every earlier one of this process."""
    global _last
    with _lock:
        milliseconds = int((time.time() - _EPOCH_S) * 1000)
        _last = max((milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS), _last + 1)
        value = _last
    return f"{prefix}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(45, -1, -5))
