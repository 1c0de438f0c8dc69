"""PyTorch import: what files may hold. Nothing in a file is run, whatever it asks for."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leti.core.errors import ArtifactError, InvalidInput, LetiError, TooLarge
from leti.generator.importers import import_model
from leti.generator.importers.torch.archive import Archive

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small network's file."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    path = tmp_path_factory.mktemp("torch") / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        torch.export.save(torch.export.export(network.eval(), (torch.ones(1, 3, 4, 4),)), path)
    return path.read_bytes()


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(members: Mapping[str, bytes], path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _changed(data: bytes, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return the file with another graph."""
    members = _members(data)
    (name,) = [name for name in members if name.endswith("models/model.json")]
    model = json.loads(members[name])
    change(model)
    return _packed({**members, name: json.dumps(model).encode()}, path)


class _Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def _pickled(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(_Bomb(mark), buffer)
    return buffer.getvalue()


def test_a_file_is_read_without_pytorch(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(saved)
    lines = (
        "import sys; sys.modules['torch'] = None",
        "from leti.generator.importers import import_model",
        f"print(import_model({str(path)!r}, weights=True).graph.fingerprint())",
    )
    ran = subprocess.run([sys.executable, "-c", "; ".join(lines)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == import_model(path).graph.fingerprint()


def test_pickled_models_are_refused_unread(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pt2"
    path.write_bytes(_pickled(mark))
    with pytest.raises(InvalidInput, match=r"pickled.*torch\.export\.save"):
        import_model(path)
    buffer = io.BytesIO()
    torch.save(_Bomb(mark), buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ArtifactError):
        import_model(path)
    assert not mark.exists()


def test_pickles_inside_of_an_archive_are_not_opened(saved: bytes, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "model.pt2"
    members = _members(saved)
    (sample,) = [name for name in members if name.endswith("sample_inputs/model.pt")]
    import_model(_packed({**members, sample: _pickled(mark)}, path))  # the one that PyTorch would run
    assert not mark.exists()
    (config,) = [name for name in members if name.endswith("model_weights_config.json")]
    told = json.loads(members[config])
    for entry in told["config"].values():
        entry["use_pickle"] = True
    weights = {name: _pickled(mark) for name in members if "/data/weights/weight_" in name}
    _packed({**members, **weights, config: json.dumps(told).encode()}, path)
    with pytest.raises(InvalidInput, match="pickled"):
        import_model(path)
    assert not mark.exists()


def test_sizes_in_a_file_are_not_evaluated(saved: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def change(model: dict[str, Any]) -> None:
        code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        for meta in model["graph_module"]["graph"]["tensor_values"].values():
            meta["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 1}}}

    with pytest.raises(LetiError):
        import_model(_changed(saved, tmp_path / "model.pt2", change))
    assert not mark.exists()


def test_operators_of_a_file_are_names_only(saved: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def change(model: dict[str, Any]) -> None:
        node = model["graph_module"]["graph"]["nodes"][1]
        node["target"] = "torch.os.system"
        node["inputs"].append({"name": "command", "arg": {"as_string": f"touch {mark}"}, "kind": 1})

    graph = import_model(_changed(saved, tmp_path / "model.pt2", change)).graph
    assert graph.unknown == ("unknown:torch.os",)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["schema_version"].update(major=9), "version 9"),
        (lambda model: model.pop("graph_module"), "damaged"),
        (lambda model: model["graph_module"]["graph"]["nodes"].append({"target": 3}), "damaged"),
        (lambda model: model["graph_module"]["graph"]["nodes"].pop(0), "nothing before it makes"),
        (lambda model: model["graph_module"]["graph"]["tensor_values"]["relu"].update(dtype=29), "29"),
        (lambda model: model["graph_module"]["graph"]["tensor_values"]["relu"]["sizes"].pop(), "cannot make"),
        (
            lambda model: model["graph_module"]["graph"]["tensor_values"]["relu"]["sizes"][0].update(as_int=-1),
            "damaged",
        ),
        (lambda model: model["graph_module"]["signature"]["output_specs"].clear(), "0 outputs"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, saved: bytes, tmp_path: Path
) -> None:
    with pytest.raises(LetiError, match=message):
        import_model(_changed(saved, tmp_path / "model.pt2", change))


def test_a_graph_over_the_limit_is_refused_in_time(saved: bytes, tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        graph = model["graph_module"]["graph"]
        relu = next(node for node in graph["nodes"] if node["name"] == "relu")
        place = graph["nodes"].index(relu)
        graph["nodes"][place + 1 : place + 1] = [
            {**relu, "name": f"relu_{i}", "inputs": [{**relu["inputs"][0], "arg": {"as_tensor": {"name": "relu"}}}]}
            for i in range(20_001)
        ]

    with pytest.raises(TooLarge):
        import_model(_changed(saved, tmp_path / "model.pt2", change))


def test_tensors_are_read_inside_of_what_is_stored(saved: bytes, tmp_path: Path) -> None:
    members = _members(saved)
    (config,) = [name for name in members if name.endswith("model_weights_config.json")]
    for name, value in (
        ("strides", [{"as_int": 10**6}] * 4),
        ("strides", [{"as_int": -1}] * 4),
        ("storage_offset", {"as_int": 10**6}),
        ("storage_offset", {"as_int": -4}),
        ("sizes", [{"as_int": 2**30}] * 4),
        ("dtype", 8),
        ("dtype", "float"),
        ("sizes", None),
    ):
        told = json.loads(members[config])
        told["config"]["0.weight"]["tensor_meta"][name] = value
        path = _packed({**members, config: json.dumps(told).encode()}, tmp_path / "model.pt2")
        with pytest.raises(LetiError):
            import_model(path, weights=True)


def test_archives_of_other_forms_are_refused(saved: bytes, tmp_path: Path) -> None:
    path, members = tmp_path / "model.pt2", _members(saved)
    root = next(iter(members)).partition("/")[0]
    with pytest.raises(ArtifactError, match="compressed"):
        import_model(_packed(members, path, zipfile.ZIP_DEFLATED))
    with pytest.raises(ArtifactError, match="misplaced"):
        import_model(_packed({**members, "../../elsewhere": b""}, path))
    with pytest.raises(InvalidInput, match="programs"):
        import_model(_packed({**members, f"{root}/models/other.json": b"{}"}, path))
    with pytest.raises(InvalidInput, match="compiled"):
        import_model(_packed({**members, f"{root}/data/aotinductor/model/x.so": b""}, path))
    with pytest.raises(InvalidInput, match="pickled weights"):
        import_model(_packed({**members, f"{root}/data/weights/model.pt": b""}, path))
    with pytest.raises(InvalidInput, match="older"):
        import_model(_packed({"version": b"8.5", "serialized_exported_program.json": b"{}"}, path))
    with pytest.raises(ArtifactError):
        import_model(_packed({}, path))
    with pytest.raises(ArtifactError, match="JSON"):
        import_model(_packed({**members, f"{root}/models/model.json": b"[" * 100_000}, path))


@pytest.mark.parametrize(("name", "position", "value"), [("sizes", 20, 2**31), ("offset", 42, 2**32 - 2)])
def test_members_outside_of_the_file_are_refused(saved: bytes, name: str, position: int, value: int) -> None:
    entry = struct.unpack_from("<L", saved, saved.rindex(b"PK\x05\x06") + 16)[0]
    fields = {position, position + 4} if name == "sizes" else {position}
    data = bytearray(saved)
    for at in fields:
        struct.pack_into("<L", data, entry + at, value)
    with pytest.raises(ArtifactError, match="lies outside"):
        Archive(bytes(data))


def test_a_file_that_starts_before_its_beginning_is_refused(saved: bytes) -> None:
    end = saved.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<L", saved, end + 16)[0]
    with pytest.raises(ArtifactError, match="lies outside"):
        Archive(saved[8:start] + saved[start:])  # every member begins eight bytes earlier than it is said to


def test_a_directory_that_would_fill_the_memory_is_not_read(saved: bytes) -> None:
    grown = bytearray(saved)
    struct.pack_into("<Q", grown, saved.rindex(b"PK\x06\x06") + 40, 2**31)  # of the directory of 64 bits
    with pytest.raises(TooLarge):
        Archive(bytes(grown))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_refused_or_read(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.pt2"
    cut = data.draw(st.integers(0, len(saved)), "length")
    damaged = bytearray(saved[:cut] if data.draw(st.booleans(), "truncated") else saved)
    for _ in range(data.draw(st.integers(0, 20), "changes")):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(LetiError):
        import_model(path, weights=True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_random_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(data)
    with pytest.raises(LetiError):
        import_model(path)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_graphs_of_another_form_are_refused_or_read(saved: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Replace any value of the graph's JSON by another."""

    def change(model: dict[str, Any]) -> None:
        at: Any = model
        while isinstance(at, dict | list) and at:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not (isinstance(at[key], dict | list) and at[key]) or data.draw(st.integers(0, 9)) == 0:
                at[key] = data.draw(_JSON)
                return
            at = at[key]

    path = _changed(saved, tmp_path / "model.pt2", change)
    with contextlib.suppress(LetiError):
        import_model(path, weights=True)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
