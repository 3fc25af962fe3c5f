"""From files and decoded documents to specs, with errors that read as sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nat_core.errors import Fault, SpecError, spec_error_from_validation
from nat_core.spec.repeated import first_repeated
from nat_core.spec.run import ExperimentSpec, RunSpec


def parse_run_spec(document: Any, what: str = "spec") -> RunSpec:
    """Validate a decoded document as a `RunSpec`.

    Raises:
        SpecError: naming every field that is wrong.
    """
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        raise spec_error_from_validation(error, what) from None


def parse_experiment_spec(document: Any, what: str = "experiment") -> ExperimentSpec:
    """Validate a decoded document as an `ExperimentSpec`.

    Raises:
        SpecError: naming every field that is wrong.
    """
    try:
        return ExperimentSpec.model_validate(document)
    except ValidationError as error:
        raise spec_error_from_validation(error, what) from None


def load_document(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds one mapping.

    Raises:
        SpecError: when the file is missing, is no YAML, sets a field twice, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document, repeated = _parsed(text), _repeated(text)
    except OSError as error:
        raise SpecError(f"spec file {path} cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        place = " ".join(str(error).split())
        raise SpecError(f"spec file {path} is not valid YAML or JSON ({place}); correct it") from None
    if repeated is not None:
        detail, line = repeated
        raise SpecError(f"spec file {path}, line {line}: {detail}")
    if not isinstance(document, dict):
        raise SpecError(f"spec file {path} holds {type(document).__name__}, not a mapping of fields; see the examples")
    return document


def set_field(document: dict[str, Any], assignment: str) -> None:
    """Apply `dotted.field=value` (value read as YAML) to a decoded document, in place.

    Raises:
        SpecError: when there is no `=` or a part of the path is not a mapping.
    """
    dotted, separator, text = assignment.partition("=")
    if not separator or not dotted:
        raise SpecError(f"--set {assignment!r} is not FIELD=VALUE; write for example steps=10")
    *parents, leaf = dotted.split(".")
    place = document
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            pointer = "/" + "/".join(parents)
            raise SpecError(f"--set {dotted}: {parent} is a plain value", [Fault(pointer, "not a section")])
    try:
        place[leaf] = _parsed(text)
    except ValueError:
        raise SpecError(f"--set {dotted}: {text!r} is not a YAML value; quote it") from None


def _parsed(text: str) -> Any:
    """YAML, of which JSON is a part; ValueError where it is none."""
    import yaml  # specs made in code need no YAML

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _repeated(text: str) -> tuple[str, int] | None:
    import yaml

    return first_repeated(yaml.compose(text, Loader=yaml.SafeLoader))
