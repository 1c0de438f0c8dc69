"""Runs `leti` again and again, each time in a process of its own, forked off this one.

A line of standard input says how it is to be run, a line of standard output is its exit code. What a command stands on
is imported once, before the first that needs it: that takes longer than most commands do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys

from leti.cli.start import main
from leti.core.errors import MissingExtra

SERVICE = ("leti.service.server", "leti.service.diagnosis", "leti.service.backup")
FILES = ("leti.generator.export.formats", "leti.generator.export.tflite", "leti.generator.importers", "numpy", "onnx")
AGENT = ("leti.cli.enrol", "leti.device_agents.fleet", "leti.device_agents.worker")
STANDS_ON = {
    **dict.fromkeys(("serve", "token", "migrate", "doctor", "backup", "restore"), SERVICE),
    **dict.fromkeys(("inspect", "export"), FILES),
    "agent": AGENT,
    "evaluate": ("leti.cli.evaluate_table", "leti.cli.evaluate_adaptation", "leti.cli.evaluate_protocols", "xgboost"),
}


def prepare(command: str) -> None:
    """Import what a command stands on, as far as it is installed: the command itself tells what is missing."""
    for name in ("leti.client", "leti.cli.main", *STANDS_ON.get(command, ())):
        with contextlib.suppress(ImportError, MissingExtra):
            importlib.import_module(name)
    gc.freeze()  # no fork looks for garbage in it


def become(arguments: list[str], environment: dict[str, str], folder: str | None, files: list[str]) -> None:
    """Be the process that was asked for; standard output and errors go to ``files``."""
    for number, path in enumerate((os.devnull, *files)):
        opened = os.open(path, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder or ".")
    sys.argv = ["leti", *arguments]
    main()


if __name__ == "__main__":
    while line := sys.stdin.readline():
        how = json.loads(line)
        prepare(how["arguments"][0])
        if not (child := os.fork()):
            become(**how)
            sys.exit()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
