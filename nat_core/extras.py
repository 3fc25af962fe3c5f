"""Packages that only some runs need."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from typing import Any

from nat_core.errors import Fault, ModelError


def required(package: str, extra: str, field: str) -> Any:
    """A package that a field of the spec asks for.

    Raises:
        ModelError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        detail = f"{field} is set, which needs {package} ({error}); pip install 'natlab[{extra}]'"
        raise ModelError(detail, [Fault(f"/{field.replace('.', '/')}", detail)]) from None


def keep_bitsandbytes_from_the_hub() -> None:
    """Load bitsandbytes, where it is installed, as if the package kernels were not.

    On some CPUs it would else fetch a kernel from the hub and run it. natlab runs no code but what was installed.
    """
    if importlib.util.find_spec("bitsandbytes") is not None:
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # it warns that kernels is missing
        import_without("bitsandbytes", "kernels")


def import_without(package: str, other: str) -> Any:
    """Import a package while another one cannot be imported."""
    held = sys.modules.get(other)
    sys.modules[other] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(package)
    finally:
        if held is None:
            del sys.modules[other]
        else:
            sys.modules[other] = held
