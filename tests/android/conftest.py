"""Phones that real adb clients connect to: see ``phone.py``. Without adb, mksh, toybox and bwrap, tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sandbox
from adb_server import ADB_PROGRAMS, AdbServer
from phone import Phone

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


@pytest.fixture
def adb_server(adb_program: Path, tmp_path: Path) -> Iterator[AdbServer]:
    """An adb server of the test's own."""
    server = AdbServer(adb_program, tmp_path / "adb-home")
    yield server
    server.stop()


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
