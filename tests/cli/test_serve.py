"""``leti serve`` as a process: signals end it in order."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

pytest.importorskip("uvicorn", reason="needs leti[service]")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_it_with_everything_in_the_database_file(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "leti.cli", "serve", "--home", str(tmp_path / "home"), "--port", "0", "--no-auth"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("LETI serves http://127.0.0.1:")
        assert process.stdout.readline() == "authentication is off: every user of this machine may do everything\n"
        process.send_signal(number)
        said, logged = process.communicate(timeout=200)
    assert process.returncode == code
    assert said == ""
    assert [json.loads(line)["event"] for line in logged.splitlines()] == ["started", "stopped"]
    assert {path.name for path in (tmp_path / "home").iterdir()} - {"worker-1.log"} == {"leti.sqlite"}


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code = (
        "import pathlib, sys, time; from leti.cli.processes import ServiceProcess;"
        "print(ServiceProcess(pathlib.Path(sys.argv[1])).url, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert httpx.get(f"{url}/v1/health", timeout=60).status_code == 200
        parent.kill()
    deadline = time.monotonic() + 200
    while [path.name for path in home.iterdir() if path.suffix != ".log"] != ["leti.sqlite"]:
        assert time.monotonic() < deadline, "the service still holds its database"
        time.sleep(0.1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/v1/health", timeout=60)
