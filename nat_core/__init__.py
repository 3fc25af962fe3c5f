"""natlab's trainer library: GRPO that updates on part of the generated tokens and stays unbiased.

Importing this package, and its modules `spec`, `events`, `errors`, `logs`, `records`, `comparison`
and `preflight`, never imports torch; the other modules belong to the trainer process.
"""

from nat_core.version import __version__

__all__ = ["__version__"]
