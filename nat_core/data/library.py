"""Libraries that only some data and rewards need, loaded when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from nat_core.errors import DataError


class LibraryMissing(DataError):
    """A library is not installed here; where the run is trained it may be."""


def library(module: str, needed_by: str, extra: str = "trainer") -> Any:
    """Import a module.

    Raises:
        LibraryMissing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LibraryMissing(
            f"{needed_by} needs {module}, which cannot be imported ({error}); install natlab[{extra}]"
        ) from None
