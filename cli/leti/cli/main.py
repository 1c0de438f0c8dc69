"""The `leti` command: one file a command group, errors in one line, exit code 2 for what the user can mend."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from leti.cli.options import TOKEN, TOKEN_FILE
from leti.cli.processes import end_with_parent
from leti.core.errors import LetiError

app = typer.Typer(
    name="leti",
    help="Predict how fast a network runs on a device, before anyone runs it there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    "serve",
    "worker",
    "token",
    "migrate",
    "doctor",
    "backup",
    "settings",
    "agent",
    "devices",
    "campaign",
    "jobs",
    "train",
    "dataset",
    "predict",
    "score",
    "evaluate",
    "search",
    "compress",
    "inspect",
    "export",
    "repeatability",
    "demo",
)
"""The modules of this package that each add their command to the app, in the order of the help."""

INPUT_ERROR, INTERRUPTED = 2, 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("leti"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File that holds the token by which the service knows you; else LETI_TOKEN_FILE names it, or "
            "LETI_TOKEN holds it.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Hold the options of the command itself."""
    if token_file is not None:
        os.environ.pop(TOKEN, None)
        os.environ[TOKEN_FILE] = str(token_file)


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


for _command in COMMANDS:
    importlib.import_module(f"leti.cli.{_command}").register(app)


def main() -> None:
    """Run the command; an error of LETI's is one line on standard error and exit code 2, never a traceback."""
    # Told to end, a command leaves its blocks in order: the service closes the database, the demo ends its children.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)
    end_with_parent()
    atexit.register(gc.freeze)  # the search for garbage at the very end would take a fifth of a command's time
    try:
        app()
    except LetiError as error:
        typer.echo(f"leti: {error}", err=True)
        sys.exit(INPUT_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a disk that is full, a folder that may not be written
        typer.echo(f"leti: {error}", err=True)
        sys.exit(INPUT_ERROR)
