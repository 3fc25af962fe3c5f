"""Are the packages of an extra installed, in the versions that natlab asks for? Read from natlab's own metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from client.doctor.finding import Finding, bad, ok

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND = re.compile(r"(>=|<=|==|!=|<|>|~=)\s*([0-9][0-9A-Za-z.*+!-]*)")


@dataclass(frozen=True)
class Requirement:
    """One package that natlab needs: for an extra, or always (`extra` is empty)."""

    name: str
    bounds: tuple[tuple[str, str], ...]
    extra: str = ""

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """From a line of package metadata: `torch<3,>=2.11; extra == "trainer"`."""
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no requirement")
        extra = _EXTRA.search(match[3] or "")
        return cls(
            match[1], tuple((sign, bound) for sign, bound in _BOUND.findall(match[2])), extra[1] if extra else ""
        )

    def is_met_by(self, version: str) -> bool:
        """Whether a version lies within the bounds; of a release its numbers count, not `rc1` or `+cu130`."""
        return all(_holds(version, sign, bound) for sign, bound in self.bounds)

    def __str__(self) -> str:
        return self.name + ",".join(sign + bound for sign, bound in sorted(self.bounds, reverse=True))


def requirements(lines: Iterable[str] | None = None) -> list[Requirement]:
    """What natlab asks for; without `lines` as its installed metadata says."""
    return [Requirement.parse(line) for line in (metadata.requires("natlab") or [] if lines is None else lines)]


def check_extra(extra: str, wanted: Iterable[Requirement]) -> Finding:
    """The packages of one extra; the empty one is what every install has."""
    name = f"packages: {extra}" if extra else "packages"
    mine = [one for one in wanted if one.extra == extra and one.name != "natlab"]
    faults, shown = [], []
    for one in mine:
        version = _installed(one.name)
        if version is None:
            faults.append(f"{one.name} is missing")
        elif not one.is_met_by(version):
            faults.append(f"{one.name} is {version}, not {one}")
        else:
            shown.append(f"{one.name} {version}")
    if faults:
        target = f"natlab[{extra}]" if extra else "natlab"
        return bad(name, ", ".join(faults), f"pip install '{target}'")
    return ok(name, ", ".join(shown) or "none needed")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _holds(version: str, sign: str, bound: str) -> bool:
    have, need = _numbers(version), _numbers(bound)
    width = max(len(have), len(need))
    have, need = (*have, *(0,) * (width - len(have))), (*need, *(0,) * (width - len(need)))
    return {
        ">=": have >= need,
        "<=": have <= need,
        ">": have > need,
        "<": have < need,
        "==": have == need,
        "!=": have != need,
        "~=": have >= need,
    }[sign]


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in release[1].split(".")) if release else ()
