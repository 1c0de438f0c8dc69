"""The memory that a model takes, as a bench tells it and as a process tells it that loads nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from leti.device_agents.bench import Finding, Wanted
from leti.device_agents.timing import Protocol

pytest.importorskip("flatbuffers", reason="the export extra is not installed")
pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytest.importorskip("psutil", reason="the agent extra is not installed")
desktop = pytest.importorskip("leti.device_agents.desktop.bench", reason="the agent extra is not installed")

from leti.core.spec import NetworkConfig
from leti.device_agents.desktop.memory import PeakMemory, status_bytes, unlimited
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.spaces.nasbench201 import spec_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and forgets the peak")

MEGABYTE = 1 << 20
ARCHITECTURE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SIZES = {
    "small": NetworkConfig(stem_channels=8, modules_per_stack=1),
    "middle": NetworkConfig(stem_channels=16, modules_per_stack=5),
    "large": NetworkConfig(input_shape=(64, 64, 3), stem_channels=64, modules_per_stack=3),
}

ALONE = """
import sys
from pathlib import Path
from leti.device_agents.backends import create
from leti.device_agents.desktop.memory import PeakMemory
backend = create("litert")
sessions = [backend.load(Path(path).read_bytes()) for path in sys.argv[2:]]
memory = PeakMemory()
session = backend.load(Path(sys.argv[1]).read_bytes())
print(memory.growth_bytes())
"""


def alone(*paths: Path) -> int:
    """Return the growth of a fresh process that loads the first file, after the others."""
    ran = subprocess.run([sys.executable, "-c", ALONE, *map(str, paths)], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_a_bench_tells_what_a_process_of_its_own_tells(tmp_path: Path) -> None:
    files: dict[str, Path] = {}
    for name, config in SIZES.items():
        files[name] = tmp_path / name
        files[name].write_bytes(export_tflite(lower(spec_of(ARCHITECTURE, config))))
    reference = tmp_path / "reference"
    reference.write_bytes(export_tflite(lower(spec_of(ARCHITECTURE, NetworkConfig(modules_per_stack=2)))))
    apart = {name: (alone(path, reference), alone(path)) for name, path in files.items()}
    bench = desktop.DesktopBench("litert", protocol=Protocol(passes=1, retries=0))
    for order in (["small", "middle", "large"], ["large", "small", "middle"]):
        wanted = [Wanted(files[name].read_bytes()) for name in order]
        found = bench.measure(wanted, reference.read_bytes(), keep_going=lambda: True, waiting=lambda _: None)
        for name, finding in zip(order, found, strict=True):
            assert isinstance(finding, Finding)
            assert finding.peak_memory_bytes == pytest.approx(apart[name][0], rel=0.1, abs=MEGABYTE)
            # The first model of a process takes with it what the runtime takes once: the reference bears that here.
            assert 0 < apart[name][1] - finding.peak_memory_bytes < 20 * MEGABYTE
            assert finding.peak_memory_bytes > files[name].stat().st_size
    bench.close()


def test_what_was_taken_and_given_back_counts_and_counts_again() -> None:
    for _ in range(2):
        memory = PeakMemory()
        taken = bytearray(b"x" * 40 * MEGABYTE)
        del taken
        growth = memory.growth_bytes()
        assert growth is not None
        assert 39 * MEGABYTE < growth < 90 * MEGABYTE  # twice: the literal, and its copy


def test_small_blocks_that_were_freed_are_not_taken_again_unseen() -> None:
    grown: list[int] = []
    for _ in range(2):
        memory = PeakMemory()
        blocks = [bytearray(1000) for _ in range(20_000)]
        grown.append(memory.growth_bytes() or 0)
        del blocks
    assert grown[1] == pytest.approx(grown[0], rel=0.25)


LIMITED = """
from leti.device_agents.desktop.memory import limit_memory, unlimited
limit_memory(64 << 20)
bytearray(32 << 20)
try:
    bytearray(128 << 20)
except MemoryError:
    print("refused")
with unlimited() as lifted:
    print(lifted, len(bytearray(128 << 20)))
try:
    bytearray(128 << 20)
except MemoryError:
    print("refused")
"""


def test_a_process_is_held_to_its_limit_beside_what_it_has() -> None:
    ran = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["refused", "True", str(128 * MEGABYTE), "refused"]
    with unlimited() as lifted:
        assert lifted is False


def test_a_system_that_tells_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from leti.device_agents.desktop import memory

    assert (status_bytes("VmRSS") or 0) > MEGABYTE
    assert status_bytes("VmNothing") is None
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "absent")
    assert PeakMemory().growth_bytes() is None
    assert status_bytes("VmRSS") is None
