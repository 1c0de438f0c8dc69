"""The command as users run it: in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

Ran = subprocess.CompletedProcess[str]
Leti = Callable[..., Ran]

FORKS = Path(__file__).with_name("forks.py")
_NOTHING: Mapping[str, str] = {}


@pytest.fixture(scope="session")
def leti(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leti]:
    """Run ``leti ARGUMENTS``, perhaps with more in its environment; return exit code, output and errors.

    ``anew`` starts an interpreter of its own, whose sets have an order of their own; else it is forked off one.
    """
    always = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    out, err = files = [tmp_path_factory.mktemp("said") / name for name in ("out", "err")]

    def run(
        *arguments: str | Path, cwd: Path | None = None, more: Mapping[str, str] = _NOTHING, anew: bool = False
    ) -> Ran:
        words, environment = [*map(str, arguments)], {**os.environ, **always, **more}
        if anew:
            command = [sys.executable, "-m", "leti.cli", *words]
            return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
        for file in files:
            file.write_bytes(b"")
        how = {
            "arguments": words,
            "environment": environment,
            "folder": str(cwd or Path.cwd()),
            "files": [*map(str, files)],
        }
        print(json.dumps(how), file=forks.stdin, flush=True)
        assert forks.stdout is not None
        code = int(forks.stdout.readline())
        return subprocess.CompletedProcess(words, code, out.read_text("utf-8"), err.read_text("utf-8"))

    with subprocess.Popen(
        [sys.executable, str(FORKS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=always
    ) as forks:
        yield run
