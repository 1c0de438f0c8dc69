"""Model files that are kept, and conversions that crash, hang and fail in processes of their own."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra `export` is not installed")

from leti.core.errors import ArtifactError, InvalidGraph, InvalidInput, TooLarge
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import make_operator
from leti.generator.export import converting
from leti.generator.export import files as files_module
from leti.generator.export.converting import convert_all
from leti.generator.export.files import Conversion, ModelFiles
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.spaces import SPACES

CONVERTER = '''
"""A converter that does what the size of its graph's input says."""

import os
import signal
import time
from pathlib import Path

from leti.core.errors import TooLarge


def convert(graph, *, seed):
    size = graph.inputs[0].shape[-1]
    Path(__file__).with_name(f"asked-{size}-{time.time_ns()}").touch()
    if size == 2:
        os._exit(3)
    if size == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if size == 4:
        time.sleep(600)
    if size == 5:
        raise ValueError("five")
    if size == 6:
        raise TooLarge("has six", field="size", remedy="at most five", limit=5)
    if size == 7:
        return b"x" * 5_000_000
    return f"{size} {seed} {os.getpid()}".encode()
'''


def graph_of(size: int) -> Graph:
    image = TensorType((1, size))
    return Graph((image,), (make_operator("relu", (image,), (image,), ()),), ((0,),), (1,))


def conversions(*sizes: int) -> list[Conversion]:
    return [Conversion(graph_of(size)) for size in sizes]


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "odd_converter.py").write_text(CONVERTER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "modules")  # processes that are spawned get the path as well
    return "odd_converter:convert"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as it takes for any conversion but the one that hangs: a busy machine may be as slow as that."""
    begin = converting._Worker.begin

    def begin_patiently(worker: converting._Worker, timeout_s: float) -> None:
        hangs = worker.task[1].graph.inputs[0].shape[-1] == 4
        begin(worker, timeout_s if hangs else converting.TIMEOUT_S)

    monkeypatch.setattr(converting._Worker, "begin", begin_patiently)


def asked(tmp_path: Path, size: int) -> int:
    return len(list((tmp_path / "modules").glob(f"asked-{size}-*")))


# --- files that are kept ---------------------------------------------------------------------------------------------


def test_a_file_is_found_by_graph_seed_format_and_version(tmp_path, monkeypatch):
    files = ModelFiles(tmp_path / "files")
    graph = lower(SPACES["nasbench201"].sample(1, 0, NetworkConfig(modules_per_stack=1))[0])
    keys = [Conversion(quantize(graph, p), f, s) for p in PRECISIONS for f in ("tflite", "onnx") for s in (0, 1)]
    for i, key in enumerate(keys):
        assert files.get(key) is None
        files.put(key, f"file {i}".encode())
    assert [files.get(key) for key in keys] == [f"file {i}".encode() for i in range(len(keys))]
    assert len(set(files.names())) == len(keys) == 16
    monkeypatch.setattr(files_module, "WRITER_VERSIONS", {"tflite": 99, "onnx": 1})
    found = [files.get(key) is not None for key in keys]
    assert found == [key.format == "onnx" for key in keys]


def test_a_damaged_file_is_no_file(tmp_path):
    files, (key,) = ModelFiles(tmp_path), conversions(1)
    for damage in (lambda b: b[:-1], lambda b: b"?" + b[1:], lambda b: b"", lambda b: b + b"x"):
        files.put(key, b"content")
        path = tmp_path / key.name
        path.write_bytes(damage(path.read_bytes()))
        assert files.get(key) is None
        assert not path.exists()
    files.put(key, b"")
    assert files.get(key) == b""


def test_what_was_not_asked_for_longest_goes_first(tmp_path):
    files, keys = ModelFiles(tmp_path, max_bytes=400), conversions(1, 2, 3, 4)
    for i, key in enumerate(keys[:3]):
        files.put(key, bytes(100))
        os.utime(tmp_path / key.name, (i, i))
    assert files.get(keys[0]) is not None  # asked for: now the newest
    files.put(keys[3], bytes(100))
    assert [files.get(key) is not None for key in keys] == [True, False, True, True]
    files.put(keys[1], bytes(10_000))  # larger than all the room: it stays, alone
    assert list(files.names()) == [keys[1].name]


def test_only_what_is_its_own_is_removed(tmp_path):
    files, (key, other) = ModelFiles(tmp_path, max_bytes=1), conversions(1, 2)
    (tmp_path / "notes.txt").write_text("mine")
    abandoned, fresh = tmp_path / "a.part", tmp_path / "b.part"
    abandoned.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(abandoned, (1, 1))
    files.put(key, b"1")
    files.put(other, b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["b.part", "notes.txt", other.name])


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be kept") as caught:
        ModelFiles(tmp_path / "file").put(conversions(1)[0], b"x")
    assert caught.value.field == "folder"
    assert ModelFiles(tmp_path / "none").get(conversions(1)[0]) is None
    assert list(ModelFiles(tmp_path / "none").names()) == []


def test_a_format_that_nobody_writes_is_refused():
    with pytest.raises(InvalidInput) as caught:
        Conversion(graph_of(1), "caffe")
    assert caught.value.field == "format"


def _put_and_get(folder: str, seed: int) -> None:
    files = ModelFiles(Path(folder), max_bytes=20_000)
    keys = conversions(*range(1, 9))
    for turn in range(60):
        key = keys[(turn * 7 + seed) % len(keys)]
        expected = bytes([key.graph.inputs[0].shape[-1]]) * 4000
        files.put(key, expected)
        for other in keys:
            found = files.get(other)
            if found is not None and found != bytes([other.graph.inputs[0].shape[-1]]) * 4000:
                os._exit(1)


def test_processes_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_put_and_get, args=(str(tmp_path), seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert 1 <= len(list(ModelFiles(tmp_path).names())) <= 5


# --- conversions -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_one_that_crashes_hangs_or_fails_costs_itself_alone(tmp_path, converter):
    sizes = [10, 2, 11, 3, 12, 4, 5, 6, 7, 13]
    results = {r.number: r for r in convert_all(conversions(*sizes), workers=2, timeout_s=1, converter=converter)}
    assert sorted(results) == list(range(10))
    by_size = {size: results[i] for i, size in enumerate(sizes)}
    for size in (10, 11, 12, 13):
        assert by_size[size].error is None
        assert by_size[size].content.split()[:2] == [str(size).encode(), b"0"]
    assert len(by_size[7].content) == 5_000_000
    for size, failure, says in (
        (2, "crash", "with code 3"),
        (3, "crash", "by signal 9"),
        (4, "timeout", "within 1 s"),
        (5, "error", "ValueError: five"),
    ):
        error = by_size[size].error
        assert by_size[size].content is None
        assert isinstance(error, InvalidGraph)
        assert says in str(error)
        assert error.field == f"conversions[{sizes.index(size)}]"
        assert error.details["failure"] == failure
        assert error.details["fingerprint"] == graph_of(size).fingerprint()
    error = by_size[6].error
    assert isinstance(error, TooLarge)
    assert (error.message, error.field, error.remedy, error.details["limit"]) == ("has six", "size", "at most five", 5)
    assert all(asked(tmp_path, size) == 1 for size in sizes if size != 4)
    assert asked(tmp_path, 4) <= 1  # it may be killed before it has begun
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]


def test_a_worker_goes_on_with_the_next(converter):
    results = list(convert_all(conversions(10, 11, 12), converter=converter))
    assert len({result.content.split()[2] for result in results}) == 1  # one process made all


def test_what_is_kept_is_not_made_again(tmp_path, converter):
    files = ModelFiles(tmp_path / "files")
    wanted = conversions(10, 2, 11)
    first = {r.number: r.content for r in convert_all(wanted, files=files, converter=converter)}
    again = {r.number: r.content for r in convert_all(wanted, files=files, converter=converter)}
    assert first == again
    assert first[1] is None
    assert [asked(tmp_path, size) for size in (10, 2, 11)] == [1, 2, 1]
    assert len(list(files.names())) == 2


def test_who_stops_listening_leaves_no_process(converter):
    results = convert_all(conversions(10, 4, 4, 11), workers=2, converter=converter)
    assert len(list(itertools.islice(results, 1))) == 1
    results.close()
    assert not [p for p in multiprocessing.active_children() if p.is_alive()]


def test_a_converter_that_is_not_there_is_an_error_each(capfd):
    results = list(convert_all(conversions(1, 2), converter="no_such_module:convert"))
    assert [result.error.details["failure"] for result in results] == ["crash", "crash"]
    assert "no_such_module" in capfd.readouterr().err


@pytest.mark.parametrize("given", [{"workers": 0}, {"timeout_s": 0}])
def test_nobody_to_convert_is_refused(given):
    with pytest.raises(InvalidInput):
        list(convert_all(conversions(1), **given))


def test_the_real_converters_run(tmp_path):
    pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")
    graph = lower(SPACES["nasbench201"].sample(1, 0, NetworkConfig(modules_per_stack=1))[0])
    whole = quantize(graph, "full_integer")
    wanted = [Conversion(graph, seed=3), Conversion(whole, seed=3), Conversion(graph, "onnx", seed=3)]
    results = {r.number: r for r in convert_all(wanted, files=ModelFiles(tmp_path))}
    assert [results[i].error for i in range(3)] == [None] * 3
    assert results[0].content == export_tflite(graph, seed=3)
    assert results[1].content == export_tflite(whole, seed=3)
