"""The processes that ``benchmarks/serve.py`` holds beside each other, and what they take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leti.cli.processes import ServiceProcess
from leti.core.access import TokenRequest
from leti.service.settings import Settings
from leti.service.store import Store

HERE = Path(__file__).parent

FORBIDDEN = ("torch", "tensorflow")
"""Libraries that the web process must do without."""

Server = tuple[str, int, str]
"""Address, process number, and the token that it asks for."""


@contextmanager
def empty_service() -> Iterator[Server]:
    """Serve routes that do nothing for the length of a block."""
    command = [sys.executable, str(HERE / "serve_empty.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid, ""
        finally:
            process.terminate()


@contextmanager
def guarded_service(home: Path, asked: bool) -> Iterator[Server | None]:
    """Serve the same folder to bearers of tokens, without a limit of rates, where that is asked for."""
    if not asked:
        yield None
        return
    store = Store.open(Settings(home))
    token = store.tokens.create(TokenRequest(f"benchmark {time.time():.0f}", "client")).token
    store.close()
    os.environ["LETI_RATE_LIMIT"] = ""
    with ServiceProcess(home, auth=True) as service:
        yield service.url, service.pid, token


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def processor_s(pid: int) -> float:
    """Return the processor's seconds that a process took, all its threads together."""
    return (
        sum(
            int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            for task in os.listdir(f"/proc/{pid}/task")
        )
        / 1e9
    )


def loaded(pid: int) -> list[str]:
    """Return which of :data:`FORBIDDEN` a process has mapped a library of."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return [name for name in FORBIDDEN if re.search(rf"/(lib)?{name}[^/]*(/|\.so)", maps)]
