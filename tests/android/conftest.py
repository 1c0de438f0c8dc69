"""Phones that real adb clients connect to: see ``phone.py``. Without adb, mksh, toybox and bwrap, tests are skipped."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sandbox
from adb_server import ADB_PROGRAMS, AdbServer
from phone import Phone

from leti.device_agents.android.adb import Adb
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.gate import Limits
from leti.device_agents.android.tool import Loops
from leti.device_agents.timing import Protocol

SMALL = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"
LARGE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
OTHER = "|nor_conv_1x1~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture(scope="session")
def models() -> dict[str, bytes]:
    """Three networks as TFLite files."""
    pytest.importorskip("flatbuffers", reason="the export extra is not installed")
    from leti.generator.export.tflite import export_tflite
    from leti.generator.lowering import lower
    from leti.generator.spaces.nasbench201 import spec_of

    cells = {"small": SMALL, "large": LARGE, "other": OTHER}
    return {name: export_tflite(lower(spec_of(arch), "prune")) for name, arch in cells.items()}


@pytest.fixture
def adb_program(request: pytest.FixtureRequest) -> Path:
    """An adb program; the system's unless a test asks for more."""
    if reason := sandbox.missing():
        pytest.skip(reason)
    return ADB_PROGRAMS[getattr(request, "param", "system")]


@pytest.fixture(scope="session")
def adb_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], AdbServer]]:
    """A server of these tests' own for each adb program: it takes long to start."""
    servers: dict[Path, AdbServer] = {}

    def server(program: Path) -> AdbServer:
        if program not in servers:
            servers[program] = AdbServer(program, tmp_path_factory.mktemp("adb-home"))
        return servers[program]

    yield server
    for each in servers.values():
        each.stop()


@pytest.fixture
def adb_server(adb_program: Path, adb_servers: Callable[[Path], AdbServer]) -> Iterator[AdbServer]:
    """An adb server that knows no other phones than the test's."""
    server = adb_servers(adb_program)
    yield server
    server("disconnect")


@pytest.fixture
def phones(adb_server: AdbServer, tmp_path: Path) -> Iterator[Callable[..., Phone]]:
    """Make phones; each is on, and connected unless the test says otherwise."""
    made: list[Phone] = []

    def make(*, connected: bool = True, **differences: Any) -> Phone:
        number = len(made) + 1
        differences.setdefault("serial_number", f"FAKE{number:04}")
        phone = Phone(tmp_path / f"phone-{number}", **differences)
        made.append(phone)
        phone.start()
        if connected:
            adb_server.connect(phone.serial)
        return phone

    yield make
    for phone in made:
        adb_server("disconnect", phone.serial)
        phone.stop()


@pytest.fixture
def android_device(phones: Callable[..., Phone]) -> Phone:
    """A phone that is well, and connected."""
    return phones()


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for benchmark_model, as a file."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT, which runs the models, is not installed")
    return sandbox.write_tool(tmp_path_factory.mktemp("tool") / "benchmark_model")


QUICK = Protocol(warmup_invokes=1, settle=0, pass_invokes=1, reference_invokes=1, passes=1, retries=0)
QUICK_LOOPS = Loops(warmup_runs=1, warmup_min_secs=0.02, num_runs=5, min_secs=0.02, max_secs=5)
QUICK_LIMITS = Limits(poll_s=0.1, wait_s=3)


@pytest.fixture
def adb(adb_server: AdbServer) -> Adb:
    """The agent's own wrapper of adb, at the test's own server."""
    return Adb(adb_server.executable, environment=adb_server.environment)


@pytest.fixture
def benches(adb: Adb, tool: Path, tmp_path: Path) -> Iterator[Callable[..., AndroidBench]]:
    """Make benches of phones, with a protocol that is as short as can be."""
    made: list[AndroidBench] = []

    def make(phone: Phone, **differences: Any) -> AndroidBench:
        usual = {"protocol": QUICK, "rest_s": 0.0, "limits": QUICK_LIMITS, "loops": QUICK_LOOPS, "back_s": 60.0}
        usual |= {"adb": adb, "lock_folder": tmp_path / "locks", "order": random.Random(0), "binary": tool}
        made.append(AndroidBench(phone.serial, **{**usual, **differences}))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
