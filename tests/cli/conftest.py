"""The command as users run it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@pytest.fixture(scope="session")
def interrupted() -> Leti:
    """Run ``leti ARGUMENTS``, interrupt it with Ctrl-C once it has ``begun``, and run it again to its end.

    What it says lies in ``folder``, and is shown beside a failure, whatever that is.
    """

    def run(*arguments: str | Path, begun: Callable[[], bool], folder: Path) -> Ran:
        command = [sys.executable, "-m", "leti.cli", *map(str, arguments)]
        with _started(command, folder / "first") as first:
            while not begun():
                assert first.poll() is None, "it ended before it had begun"
                time.sleep(0.2)
            first.send_signal(signal.SIGINT)
            assert first.wait() == 130
        assert "goes on from there" in (folder / "first.err").read_text("utf-8")
        assert begun(), "what was done is kept"
        with _started(command, folder / "again") as again:
            code = again.wait()
        out, err = ((folder / f"again.{name}").read_text("utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(command, code, out, err)

    return run


@contextmanager
def _started(command: list[str], said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose output and errors go to files, ended with the block."""
    files = [said.with_suffix(ending) for ending in (".out", ".err")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with files[0].open("wb") as out, files[1].open("wb") as err:
        # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            print(*(file.read_text("utf-8", "replace") for file in files))
