"""The `natlab` command: `client/cli/` has a file for each room of it, and this one puts them together.

Errors are one sentence on stderr. Exit status: 0 fine, 1 something failed, 2 bad input, 130 Ctrl-C
(128 + the number of the signal that ended it).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import TyperException

from client.cli import experiments, export, export_model, local, runs, send, stack, upkeep
from client.cli.shared import complain
from client.errors import ApiError
from client.processes import StopRequested
from nat_core.errors import NatlabError

app = typer.Typer(
    help="How few generated tokens can I train on? GRPO on unbiased token budgets: launch, watch, compare.",
    epilog="Exit status: 0 fine, 1 something failed, 2 the input was wrong, 130 ended by Ctrl-C. With --json a command "
    "prints JSON for programs; errors are one sentence on stderr all the same. The server is found by NATLAB_URL "
    "(http://127.0.0.1:8300 unless set) and opened by NATLAB_TOKEN or NATLAB_TOKEN_FILE; for one of this machine the "
    "token in its data folder NATLAB_HOME (.natlab unless set) does.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print natlab's version.", is_eager=True, callback=upkeep.print_version)
    ] = False,
) -> None: ...


# In the order in which `natlab --help` lists them.
COMMANDS: dict[str, Callable[..., None]] = {
    "up": stack.up,
    "demo": stack.demo,
    "plan": local.plan,
    "train": local.train,
    "launch": experiments.launch,
    "ls": experiments.list_experiments,
    "watch": experiments.watch,
    "compare": experiments.compare,
    "export": export.export,
    "export-model": export_model.export_model,
    "send": send.send,
    "logs": runs.logs,
    "pause": runs.pause,
    "resume": runs.resume,
    "stop": runs.stop,
    "kill": runs.kill,
    "workers": upkeep.workers,
    "link": stack.print_link,
    "server": stack.server,
    "worker": stack.worker,
    "backup": upkeep.backup,
    "gc": upkeep.gc,
    "doctor": upkeep.doctor,
    "version": upkeep.version,
}
for name, command in COMMANDS.items():
    app.command(name)(command)


def main() -> None:
    """Entry point: runs a command and turns what it raises into a sentence and an exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line; returns its exit status."""
    try:
        return app(arguments or ["--help"], prog_name="natlab", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except StopRequested as request:
        return 128 + request.signum
    except BrokenPipeError:  # `natlab ls | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except TyperException as error:
        complain(f"{error.format_message()}{_where_help_is(error)}")
        return 2
    except NatlabError as error:
        complain(error.message)
        for line in getattr(error, "lines", []):
            complain(f"  {line}")
        return _status_of(error)
    except Exception as error:
        complain(f"natlab hit a bug ({type(error).__name__}: {error}); set NATLAB_DEBUG=1 to see where")
        if os.environ.get("NATLAB_DEBUG"):
            raise
        return 1


def _where_help_is(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f" See `{context.command_path} --help`."


def _status_of(error: NatlabError) -> int:
    """2 when the input was wrong, 1 when something else broke: a server away, a part that died."""
    if isinstance(error, ApiError):
        return 2 if error.problem.status < 500 else 1
    return 1 if error.code in ("server_unreachable", "stack", "waited_too_long") else 2
