"""Prompts and answers: files, hub data sets, presets, generators and the built-in demo task. No torch here.

Order is a pure function of the seed and the step, so that every budget of an experiment sees the
same prompts and a resumed run goes on where it was.
"""

from nat_core.data.example import Example, Examples
from nat_core.data.library import LibraryMissing
from nat_core.data.opening import check_data, open_questions, open_source, read_file
from nat_core.data.source import DemoSource, PromptSource, RowSource

__all__ = [
    "DemoSource",
    "Example",
    "Examples",
    "LibraryMissing",
    "PromptSource",
    "RowSource",
    "check_data",
    "open_questions",
    "open_source",
    "read_file",
]
