"""The command as users run it: in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Ran = subprocess.CompletedProcess[str]
Leti = Callable[..., Ran]

_NOTHING: Mapping[str, str] = {}


@pytest.fixture(scope="session")
def leti() -> Leti:
    """Run ``leti ARGUMENTS``, perhaps with more in its environment; return exit code, output and errors."""

    def run(
        *arguments: str | Path, cwd: Path | None = None, timeout_s: float = 240.0, more: Mapping[str, str] = _NOTHING
    ) -> Ran:
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **more}
        command = [sys.executable, "-m", "leti.cli", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=timeout_s
        )

    return run
