"""What the terminal is told by others, it shows and does not obey."""

from __future__ import annotations

import io

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client.cli import shared
from client.console import HarmlessConsole

HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\x7fe\rf"


def assert_obeys_nothing(written: str, own: str = "") -> None:
    for sequence in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\x7f", "\r" if not own else "\x07"):
        assert sequence not in written
    assert "a\\x1b[2Jb" in written


def console() -> tuple[HarmlessConsole, io.StringIO]:
    screen = io.StringIO()
    return HarmlessConsole(file=screen, force_terminal=True, width=200, color_system="standard"), screen


def test_lines_texts_and_tables_show_control_characters() -> None:
    for thing in (HOSTILE, Text(HOSTILE, style="bold"), table()):
        plain, screen = console()
        plain.print(thing, markup=False, highlight=False)
        assert_obeys_nothing(screen.getvalue())


def test_what_is_drawn_again_and_again_does_too_and_its_own_control_stays() -> None:
    plain, screen = console()
    with Live(table(), console=plain, auto_refresh=False) as live:
        live.update(table(), refresh=True)
    assert_obeys_nothing(screen.getvalue(), own="live")
    assert "\x1b[?25l" in screen.getvalue() and "\x1b[1m" in screen.getvalue()  # the cursor is hidden, a head is bold


def table() -> Table:
    made = Table("Name", box=None, header_style="bold")
    made.add_row(HOSTILE)
    return made


@pytest.mark.parametrize("stream", ["out", "err"])
def test_the_command_line_prints_by_such_a_console(stream: str) -> None:
    assert isinstance(getattr(shared, stream), HarmlessConsole)
