"""Real model files, a clock that is under control, and services that come and go."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from desktop_benches import QUICK, Make
from mischief import install

from leti.client import LatencyClient
from leti.core.errors import Unavailable
from leti.device_agents.bench import Bench

SMALL = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"
LARGE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"

SERVE = """
import sys
from pathlib import Path
from leti.service.server import serve
from leti.service.settings import Settings
serve(Settings(home=Path(sys.argv[1]), auth=False, lease_s=float(sys.argv[3])), port=int(sys.argv[2]))
"""


@pytest.fixture(scope="session")
def models() -> dict[str, bytes]:
    """A small and a large network as TFLite files."""
    pytest.importorskip("flatbuffers", reason="the export extra is not installed")
    from leti.generator.export.tflite import export_tflite
    from leti.generator.lowering import lower
    from leti.generator.spaces.nasbench201 import spec_of

    return {name: export_tflite(lower(spec_of(arch), "prune")) for name, arch in (("small", SMALL), ("large", LARGE))}


class Service:
    """The real service in a process of its own, on a port that it keeps; it can go away and come back."""

    def __init__(self, home: Path, lease_s: float) -> None:
        self.home = home
        self.lease_s = lease_s
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self.home), str(self.port), str(self.lease_s)]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 120
        with LatencyClient(self.url, retries=0) as client:
            while True:
                try:
                    client.health()
                    return
                except Unavailable:
                    assert self._process.poll() is None, "the service ended"
                    assert time.monotonic() < deadline, "the service did not start"
                    time.sleep(0.1)

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(60)
            self._process = None


@contextmanager
def services(folder: Path) -> Iterator[Callable[[float], Service]]:
    """Start services whose leases last so many seconds, for the length of a block."""
    pytest.importorskip("fastapi", reason="the service's extra is not installed")
    started: list[Service] = []

    def start(lease_s: float) -> Service:
        started.append(Service(folder / f"service-{len(started)}", lease_s))
        started[-1].start()
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[float], Service]]:
    """Start a service of the test's own, whose leases last so many seconds."""
    with services(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def lasting_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that nobody ends, for tests with platforms of their own."""
    with services(tmp_path_factory.mktemp("lasting")) as start:
        yield start(60.0)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def mischief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("mischief"))


@pytest.fixture
def make(mischief: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make benches with the backend of mischief, of which children know by the path that they inherit."""
    monkeypatch.setenv("PYTHONPATH", str(mischief), prepend=os.pathsep)
    desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")
    made: list[Bench] = []

    def bench(backend: str = "mischief", **options: object) -> Bench:
        options = {"protocol": QUICK, "order": random.Random(1), **options}
        made.append(desktop.DesktopBench(backend, **options))
        return made[-1]

    yield bench
    for each in made:
        each.close()
