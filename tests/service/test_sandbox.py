"""The sandbox: whatever a file does to its reader, the one who asked lives on and is told."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra service")
pytest.importorskip("onnx", reason="needs the extra import-onnx")

from leti.core.errors import InvalidInput, TooLarge, Unavailable
from leti.core.spec import NetworkConfig
from leti.generator.export.formats import export_model
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service.settings import Settings
from leti.service.uploads import reading, sandbox

LIMITS = sandbox.Limits(timeout_s=240)
GRAPHS = Settings().graph_limits
GRAPH = lower(get_space("nasbench201").sample(1, 3, NetworkConfig(modules_per_stack=1))[0])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network as a file of each format."""
    folder = tmp_path_factory.mktemp("files")
    for model_format in ("tflite", "onnx"):
        (folder / f"good.{model_format}").write_bytes(export_model(GRAPH, model_format))
    return folder


def child(code, file, limits=LIMITS):
    """Run code of the test's own in the sandbox."""
    return sandbox.run((sys.executable, "-I", "-c", code), file, "model", limits)


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_a_file_becomes_the_graph_that_it_was_written_of(files, model_format):
    found = reading.read_model(files / f"good.{model_format}", model_format, LIMITS, GRAPHS)
    assert found == GRAPH
    assert (found.macs, found.params, found.kernels) == (GRAPH.macs, GRAPH.params, GRAPH.kernels)
    assert found.peak_memory_bytes == GRAPH.peak_memory_bytes


def test_damaged_files_are_refused(files, tmp_path):
    good = {name: (files / f"good.{name}").read_bytes() for name in ("tflite", "onnx")}
    bad = {
        "tflite": [b"xxxxTFL3" + b"\xff" * 200, good["tflite"][:1000]],
        "onnx": [good["onnx"][:5000], good["tflite"]],
    }
    for model_format, contents in bad.items():
        for content in contents:
            (tmp_path / "bad").write_bytes(content)
            with pytest.raises(InvalidInput) as refused:
                reading.read_model(tmp_path / "bad", model_format, LIMITS, GRAPHS)
            assert refused.value.message
            assert str(tmp_path) not in str(refused.value)


def test_a_file_that_takes_too_long_or_too_much_is_refused(files, tmp_path):
    with pytest.raises(TooLarge, match="not read within"):
        reading.read_model(files / "good.onnx", "onnx", sandbox.Limits(timeout_s=0.01), GRAPHS)
    with pytest.raises(TooLarge, match="too much to be told"):
        reading.read_model(files / "good.onnx", "onnx", sandbox.Limits(answer_bytes=1000), GRAPHS)
    name = b"a" * (120 * 2**20)
    huge = tmp_path / "huge.onnx"
    huge.write_bytes(_field(7, _field(1, _field(3, name))))  # a model's graph's node of a long name
    with pytest.raises(TooLarge, match="more memory"):
        reading.read_model(huge, "onnx", sandbox.Limits(memory_bytes=300 * 2**20), GRAPHS)


def _field(number, content):
    """Return a field of a protobuf message: its key, its length, its content."""
    length, left = bytearray(), len(content)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + content


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import ctypes; ctypes.string_at(0)", "signal 11"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("import os; os.abort()", "signal 6"),
        ("print('not JSON')", "no answer"),
        ("print('[' * 100_000)", "no answer"),
        ("pass", "no answer"),
    ],
)
def test_a_reader_that_dies_or_babbles_costs_only_itself(files, code, said):
    with pytest.raises(InvalidInput, match=said):
        child(code, files / "good.tflite")


def test_a_reader_that_hangs_is_killed_with_all_that_it_began(files, tmp_path):
    began = tmp_path / "began"
    code = (
        "import os, pathlib, time\n"
        f"if not os.fork(): pathlib.Path({str(began)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(300)"
    )
    for timeout_s in (1, 10, 60):  # where it is killed before it began anything, it has longer
        with pytest.raises(TooLarge):
            child(code, files / "good.tflite", sandbox.Limits(timeout_s=timeout_s))
        if began.exists() and began.read_text():
            break
    state, deadline = Path(f"/proc/{began.read_text()}/stat"), time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while state.read_text().split()[2] not in "ZX":  # a killed process ends when the kernel comes to it
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_a_reader_says_of_a_graph_is_not_believed(files, monkeypatch):
    said = {"graph": GRAPH.to_json()}
    for place, value in (("macs", 1), ("kind", "no_such_kind"), ("outputs", [{"shape": [1, 2], "dtype": "float32"}])):
        graph = json.loads(json.dumps(said))
        graph["graph"]["ops"][0][place] = value
        code = f"import sys; sys.stdout.write({json.dumps(graph)!r})"
        monkeypatch.setattr(reading, "READER", (sys.executable, "-I", "-c", code))
        with pytest.raises(InvalidInput):
            reading.read_model(files / "good.tflite", "tflite", LIMITS, GRAPHS)


def test_a_reader_is_shut_in(files):
    host = {line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines() if ":" in line}
    code = """
import json, os, socket, sys
from leti.service.uploads import child
brought = sorted({name.partition(".")[0] for name in sys.modules} & {"fastapi", "sqlalchemy", "pydantic", "numpy"})
child.contain(2**30, 5)
said = {"brought": brought, "env": sorted(os.environ), "cwd": os.listdir(), "cut": [], "user": os.geteuid()}
with open("/proc/net/dev") as file:
    said["interfaces"] = [line.partition(":")[0].strip() for line in file if ":" in line]
def tried(name, do):
    try:
        do()
        said[name] = "done"
    except (OSError, MemoryError) as error:
        said[name] = type(error).__name__
def write():
    with open("written", "wb") as file:
        file.write(b"a")
tried("memory", lambda: bytearray(2**31))
tried("write", write)
tried("files", lambda: [open("model", "rb") for _ in range(100)])
tried("fork", lambda: os.fork() or os._exit(0))
sys.addaudithook(child.forbid)
tried("hooked write", write)
tried("hooked fork", lambda: os.fork() or os._exit(0))
tried("hooked socket", lambda: socket.socket())
json.dump(said, sys.stdout)
"""
    said = child(code, files / "good.tflite")
    assert said["brought"] == [], "it reads a file, and is no service"
    assert set(said["env"]) <= {"LC_ALL", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert said["cwd"] == ["model"]
    assert said["memory"] == "MemoryError"
    assert said["write"] == said["files"] == "OSError"
    assert said["hooked write"] == said["hooked fork"] == said["hooked socket"] == "PermissionError"
    if said["user"] != 0:
        assert said["fork"] == "BlockingIOError"
    if set(said["interfaces"]) == host != {"lo"}:
        pytest.skip("this kernel grants no process a network of its own")
    assert set(said["interfaces"]) <= {"lo"}


def test_many_files_are_read_at_once_beside_threads(files):
    """The child is started by exec: what other threads hold at that moment does not reach it."""
    found, before = [], set(os.listdir("/proc/self/fd"))
    threads = [
        threading.Thread(target=lambda: found.append(reading.read_model(files / "good.onnx", "onnx", LIMITS, GRAPHS)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [GRAPH] * 2
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)


def test_what_cannot_be_started_is_no_fault_of_the_file(files):
    with pytest.raises(Unavailable):
        sandbox.run(("/no/such/program",), files / "good.onnx", "model", LIMITS)
