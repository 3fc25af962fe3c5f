"""Script in every text that natlab can be told. Which texts there are is read from its models: none is forgotten.

A text's place is its model and field, `JsonlData.path`. Its mark is short, stands in every attempt on it, and tells
on a page whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError

WAYS = [
    "<script>window.hacked='{0}'</script>",
    "<img src=x onerror=\"window.hacked='{0}'\">",
    '"><svg onload="window.hacked=\'{0}\'">',
    "' onmouseover='window.hacked=\"{0}\"' x='",
    "</script></title></textarea></style></pre></template><script>window.hacked='{0}'</script>",
    "javascript:window.hacked='{0}'",
    "<a href=\"javascript:window.hacked='{0}'\">{0}</a>",
    "<iframe srcdoc=\"<script>parent.hacked='{0}'</script>\"></iframe>",
    "${{window.hacked='{0}'}}{{{{constructor.constructor('window.hacked=1')()}}}}",
]
SHORT = ["<svg onload=hacked='{0}'>", "<svg/onload=hacked='{0}'>", "'onfocus=hacked='{0}'"]

NEEDED: dict[str, dict[str, Any]] = {
    "ExperimentSpec": {"name": "x", "budgets": [{"selector": "full"}, {"selector": "rpc"}]},
    "ModelSpec": {"chat_template": True},
    "JsonlData": {"type": "jsonl", "path": "x"},
    "CsvData": {"type": "csv", "path": "x"},
    "ParquetData": {"type": "parquet", "path": "x"},
    "HubData": {"type": "huggingface", "path": "x"},
    "Gsm8kData": {"type": "gsm8k"},
    "Math500Data": {"type": "math500"},
    "ReasoningGymData": {"type": "reasoning_gym", "task": "chain_sum"},
    "QuestionSetSpec": {"data": {"type": "demo_arithmetic"}},
    "ExactMatch": {"type": "exact_match"},
    "FormatReward": {"type": "format", "pattern": "x"},
    "ReasoningGymReward": {"type": "reasoning_gym"},
    "CustomReward": {"type": "custom", "function": "a:b"},
    "WeightedSum": {"type": "sum", "parts": [{"reward": {"type": "exact_match"}}]},
    "RewardPart": {"reward": {"type": "exact_match"}},
    "Answers": {"accuracy": 0.5, "num_prompts": 1, "num_samples": 2, "correct": [1], "mean_length": 4},
    "Registration": {"hostname": "x"},
    "Claim": {"worker_id": "x"},
    "Finish": {"attempt": 1, "outcome": "failed"},
    "Heartbeat": {"attempt": 1, "step": 1},
}
_EVENT = {"seq": 1, "time": 1.0, "step": 2}
_LISTS = {"keep": [True], "inclusion_prob": [0.5]}
NEEDED |= {
    "MetricsEvent": {**_EVENT, "values": {"reward": 0.5, "tokens/selected": 10.0, "tokens/generated": 20.0}},
    "SampleEvent": {**_EVENT, **_LISTS, "prompt": "", "tokens": ["x"], "reward": 1, "advantage": 1, "answer": ""},
    "EvaluationEvent": {**_EVENT, **NEEDED["Answers"], "seconds": 1.0},
    "CheckpointEvent": {**_EVENT, "path": "x", "size_bytes": 1},
    "LogEvent": {**_EVENT, "message": "", "level": "error"},
    "StateEvent": {**_EVENT, "phase": "started"},
}
"""What a model needs beside its texts."""


def places_of(kind: Any, place: str = "") -> Iterator[str]:
    """The places of all texts in a type, however deep. Choices of words are no texts."""
    if kind is str or kind is Any or kind is JsonValue:
        yield place
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from places_of(field.annotation, f"{kind.__name__}.{name}")
    elif get_origin(kind) is not Literal:
        for part in get_args(kind):
            yield from places_of(part, place)


class Hostile:
    """Documents full of attempts.

    Args:
        models: of everything that can be told.
        further: places that no model describes.
    """

    def __init__(self, models: list[type[BaseModel]], *further: str) -> None:
        places = dict.fromkeys([*further, *(place for model in models for place in places_of(model))])
        self.marks = {place: f"m{number:03d}m" for number, place in enumerate(places)}

    def attempts(self, place: str) -> list[str]:
        """On one text: all at once, then what fits where not everything does."""
        mark, turn = self.marks[place], list(self.marks).index(place) % len(WAYS)
        ways = [way.format(mark) for way in WAYS[turn:] + WAYS[:turn]]
        short = [way.format(mark) for way in SHORT]
        together = " ".join(ways)
        return [together, f"{together} {{prompt}}", f"({together})", *ways, *short, f"http://x/{short[1]}"]

    def word(self, place: str) -> str:
        """An attempt that can be a name: of a file, or a part of an address."""
        return f"\"><svg onload=hacked='{self.marks[place]}'>"

    def filled(self, model: type[BaseModel], *chosen: type[BaseModel]) -> dict[str, Any]:
        """A document of this model, each of its texts the first attempt that it takes.

        Args:
            chosen: which models to take where there is a choice.
        """
        document = dict(NEEDED.get(model.__name__, {}))
        for name, field in model.model_fields.items():
            place = f"{model.__name__}.{name}"
            if not any(places_of(field.annotation, place)):
                continue
            for candidate in self._candidates(field.annotation, place, chosen):
                if _is_valid(model, {**document, name: candidate}):
                    document[name] = candidate
                    break
        return document

    def found_in(self, text: str) -> set[str]:
        """The places whose marks stand in a text."""
        marks = set(re.findall(r"m\d{3}m", text))
        return {place for place, mark in self.marks.items() if mark in marks}

    def _candidates(self, kind: Any, place: str, chosen: tuple[type[BaseModel], ...]) -> Iterator[Any]:
        origin, parts = get_origin(kind), get_args(kind)
        if kind is str or kind is Any or kind is JsonValue:
            yield from self.attempts(place)
        elif kind is float:
            yield 1.0
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield self.filled(kind, *chosen)
        elif origin is Annotated:
            yield from self._candidates(parts[0], place, chosen)
        elif origin is list:
            yield from ([one] for one in self._candidates(parts[0], place, chosen))
        elif origin is dict:
            for value in self._candidates(parts[1], place, chosen):
                yield from ({key: value} for key in [*self.attempts(place), "word"])
        elif origin is not Literal:
            for part in sorted(parts, key=lambda part: (part not in chosen, part is float)):
                yield from self._candidates(part, place, chosen)


def _is_valid(model: type[BaseModel], document: dict[str, Any]) -> bool:
    try:
        model.model_validate(document)
    except ValidationError:
        return False
    return True
