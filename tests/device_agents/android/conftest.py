"""An ``adb`` program of a few lines of shell, for what must hold whichever adb is installed, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leti.device_agents.android.adb import Adb

WELL = """
case "$1" in
version) printf 'Android Debug Bridge version 1.0.41\\nVersion 29.0.6-debian\\nInstalled as /usr/bin/adb\\n' ;;
start-server) echo start >>"$0.log" ;;
devices) printf 'List of devices attached\\nS1                     device model:Toy transport_id:1\\n\\n' ;;
-s)
    case "$3" in
    shell) PATH="$(dirname "$0"):$PATH" exec sh -c "$4" ;;
    push) cp "$4" "$5" ;;
    pull) cp "$4" "$5" ;;
    esac ;;
esac
"""
"""A phone whose shell is this machine's, with the programs beside adb first on its path."""


@pytest.fixture
def adb_of(tmp_path: Path) -> Callable[..., Adb]:
    """Return what makes an Adb of a script, with further programs of the phone by name."""

    def make(body: str = WELL, **programs: str) -> Adb:
        for name, text in {"adb": body, **programs}.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        return Adb(tmp_path / "bin" / "adb", environment={"PATH": os.environ["PATH"]})

    return make
