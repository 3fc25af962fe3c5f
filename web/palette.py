"""The colours of figures, one palette for each theme; the same values stand in `static/app.css`.

A cell keeps its colour everywhere: dot in the table, point, line and bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True)
class Palette:
    """Colours of one theme, as the style sheet names them."""

    panel: str
    ink: str
    ink_2: str
    ink_3: str
    line: str
    line_2: str
    good: str
    bad: str
    on_bar: str
    cells: tuple[str, ...]

    def cell(self, cell: int) -> str:
        """Colour of a cell; the ninth cell starts over."""
        return self.cells[cell % len(self.cells)]

    def cell_soft(self, cell: int, alpha: float) -> str:
        """The cell's colour, see-through: for bands and intervals."""
        return faded(self.cell(cell), alpha)


def faded(color: str, alpha: float) -> str:
    """`#rrggbb` as `rgba(...)`."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


LIGHT = Palette(
    panel="#ffffff",
    ink="#14181f",
    ink_2="#4b5565",
    ink_3="#667085",
    line="#e3e7ee",
    line_2="#eef1f5",
    good="#0a7d4f",
    bad="#b3261e",
    on_bar="#ffffff",
    cells=("#3d5afe", "#00897b", "#c2571a", "#8e44ad", "#c2186b", "#667000", "#0277a8", "#7a5230"),
)
DARK = Palette(
    panel="#161b22",
    ink="#eef1f6",
    ink_2="#b4bdca",
    ink_3="#8b96a8",
    line="#272e39",
    line_2="#1e242d",
    good="#5fd3a0",
    bad="#ff8a80",
    on_bar="#0f1217",
    cells=("#8fa2ff", "#4fd1c0", "#f2975c", "#cf9ae6", "#ff8fbf", "#c3d35a", "#6cc7f2", "#d3ac86"),
)
PALETTES: dict[ThemeName, Palette] = {"light": LIGHT, "dark": DARK}
