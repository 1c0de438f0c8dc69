"""PyTorch on this machine: what it computes, and that a model file cannot make it do anything else."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.core.errors import InvalidGraph, InvalidInput, MeasurementFailed

torch = pytest.importorskip("torch", reason="the extra `pytorch` is not installed")

import operator_cases as cases

from leti.core.spec import NetworkConfig
from leti.device_agents.desktop import pt2
from leti.device_agents.desktop.pytorch import PyTorchBackend, PyTorchSession
from leti.generator.export.torch import export_torch
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

SMALL = NetworkConfig(stem_channels=8, stacks=2, modules_per_stack=1)


@pytest.fixture(scope="module")
def model() -> bytes:
    return export_torch(lower(SPACES["nasbench201"].sample(1, 4, SMALL)[0]))


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(held: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in held.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def changed(data: bytes, change: Callable[[dict[str, Any]], object], name: str = "models/model.json") -> bytes:
    """Return a file of which one member, JSON, is another."""
    held = members(data)
    read = json.loads(held[f"archive/{name}"])
    change(read)
    return packed({**held, f"archive/{name}": json.dumps(read).encode()})


def failure(data: bytes) -> str:
    """Return how a file is refused."""
    with pytest.raises(MeasurementFailed) as caught:
        PyTorchBackend().load(data)
    assert len(str(caught.value)) < 500
    return str(caught.value.details["failure"])


# --- what is measured ------------------------------------------------------------------------------------------------


def test_a_network_computes_what_pytorch_loads(model: bytes) -> None:
    session = PyTorchSession(model, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        exported = torch.export.load(io.BytesIO(model)).module()
    with torch.inference_mode():
        expected = exported(*session._inputs)
    (logits,) = session.outputs()
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert logits.std() > 0


def test_inputs_stay_what_they_were(model: bytes) -> None:
    session = PyTorchSession(model, "cpu")
    first = session.outputs()[0]
    for _ in range(3):
        session.invoke()
    np.testing.assert_array_equal(session.outputs()[0], first)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_whatever_the_exporter_writes_is_run(case: cases.Case) -> None:
    try:
        data = export_torch(case.imported().graph)
    except InvalidGraph:
        pytest.skip("PyTorch has no form of it")
    for output in PyTorchSession(data, "cpu").outputs():
        assert np.isfinite(output).all()


def test_threads_are_as_many_as_asked_for(model: bytes) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            PyTorchBackend(threads=threads).load(model)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_profile_has_the_operators_in_the_order_of_their_calls(model: bytes) -> None:
    nodes = json.loads(members(model)["archive/models/model.json"])["graph_module"]["graph"]["nodes"]
    times = PyTorchBackend().profile(model, runs=4)
    assert [time.name for time in times] == [
        f"aten::{node['target'].removeprefix('torch.ops.aten.').partition('.')[0]}" for node in nodes
    ]
    assert {(time.unit, len(time.times_us)) for time in times} == {("builtin", 4)}
    assert all(min(time.times_us) > 0 for time in times)


def test_cuda_is_offered_with_the_reason_where_it_is_missing() -> None:
    offers = {offer.delegate: offer.reason for offer in PyTorchBackend.offers()}
    assert list(offers) == ["cpu", "cuda"]
    assert offers["cpu"] == ""
    if torch.cuda.is_available():
        assert offers["cuda"] == ""
        return
    assert "CUDA" in offers["cuda"]
    with pytest.raises(InvalidInput, match="CUDA") as caught:
        PyTorchBackend(delegate="cuda")
    assert caught.value.field == "delegate"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA here")
def test_cuda_computes_what_the_processor_does(model: bytes) -> None:
    backend = PyTorchBackend(delegate="cuda")
    session, other = backend.load(model), PyTorchSession(model, "cpu")
    assert isinstance(session, PyTorchSession)
    session.invoke()
    for made, expected in zip(session.outputs(), other.outputs(), strict=True):
        np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max()))
    assert backend.profile(model) == ()


# --- what a file may not do ------------------------------------------------------------------------------------------


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def pickled(mark: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Bomb(mark), buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert mark.exists()  # it does what it is feared for
    mark.unlink()
    return buffer.getvalue()


@pytest.mark.parametrize(
    "member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/custom_obj_0", "data.pkl"]
)
def test_a_pickle_in_an_archive_is_not_run(model: bytes, pickled: bytes, mark: Path, member: str) -> None:
    bad = packed({**members(model), f"archive/{member}": pickled})
    assert failure(bad) == "bad-model"
    assert not mark.exists()


def test_pickled_sample_inputs_would_be_run_by_pytorch_itself(model: bytes, pickled: bytes, mark: Path) -> None:
    """What this is about: ``torch.export.load`` runs what the same file holds."""
    bad = packed({**members(model), "archive/data/sample_inputs/model.pt": pickled})
    with contextlib.suppress(AssertionError, TypeError):  # what it raises afterwards
        torch.export.load(io.BytesIO(bad))
    assert mark.exists()


def test_a_pickle_is_no_model(pickled: bytes, mark: Path) -> None:
    assert failure(pickled) == "bad-model"
    assert not mark.exists()


@pytest.mark.parametrize("table", ["weights", "constants"])
def test_a_pickled_tensor_is_not_run(model: bytes, pickled: bytes, mark: Path, table: str) -> None:
    held = members(model)
    config = json.loads(held["archive/data/weights/model_weights_config.json"])["config"]
    name, entry = next(iter(config.items()))
    held["archive/data/constants/pickled"] = held[f"archive/data/weights/{entry['path_name']}"] = pickled

    def swap(model: dict[str, Any]) -> None:
        (spec,) = [
            item for item in model["graph_module"]["signature"]["input_specs"] if name in str(item.get("parameter"))
        ]
        argument = spec.pop("parameter")["arg"]
        spec["tensor_constant"] = {"arg": argument, "tensor_constant_name": name}

    entry["use_pickle"] = True
    if table == "constants":
        entry["path_name"] = "pickled"
        held["archive/data/constants/model_constants_config.json"] = json.dumps({"config": {name: entry}}).encode()
    else:
        held["archive/data/weights/model_weights_config.json"] = json.dumps({"config": config}).encode()
    bad = packed(held)
    assert failure(changed(bad, swap) if table == "constants" else bad) == "bad-model"
    assert not mark.exists()


def first_node(model: dict[str, Any]) -> dict[str, Any]:
    return model["graph_module"]["graph"]["nodes"][0]


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",  # maps any file, and makes it where there is none
        "torch.ops.aten.save.default",
        "torch.ops.aten.conv2d.default.__class__",
        "torch.ops.aten.__class__.default",
        "torch.ops.higher_order.run_and_save_rng_state",
        "torch.ops.load_library",
        "_operator.getitem",
        "os.system",
        "builtins.eval",
        "",
    ],
)
def test_other_operators_are_refused(model: bytes, target: str) -> None:
    assert failure(changed(model, lambda read: first_node(read).update(target=target))) == "unsupported"


def test_expressions_and_guards_are_not_evaluated(model: bytes, mark: Path) -> None:
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def open_size(read: dict[str, Any]) -> None:
        graph = read["graph_module"]["graph"]
        graph["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": code, "hint": None}}

    assert failure(changed(model, open_size)) == "unsupported"
    PyTorchBackend().load(changed(model, lambda read: read.update(guards_code=[code])))
    assert not mark.exists()


def test_names_in_a_file_are_no_code(model: bytes, mark: Path) -> None:
    """What runs is Python written of the graph: no name of the file's may be in it."""
    code = f"x = __import__('pathlib').Path({str(mark)!r}).touch()"
    held = members(model)
    text = held["archive/models/model.json"].decode().replace('"conv2d"', json.dumps(code))
    assert json.dumps(code) in text
    PyTorchBackend().load(packed({**held, "archive/models/model.json": text.encode()}))
    assert not mark.exists()


@pytest.mark.parametrize("word", ["'); import os; ('", "same"])
def test_words_are_those_that_are_known(model: bytes, word: str) -> None:
    def spoil(read: dict[str, Any]) -> None:
        first_node(read)["inputs"][0]["arg"] = {"as_string": word}

    assert failure(changed(model, spoil)) == "unsupported"


def test_arguments_are_those_that_an_operator_has(model: bytes, mark: Path) -> None:
    code = f"input=__import__('pathlib').Path({str(mark)!r}).touch(), input"
    for name in (code, "3", "padding_mode", ""):
        bad = changed(model, lambda read: first_node(read)["inputs"][0].update(name=name))  # noqa: B023
        assert failure(bad) == "bad-model"
    assert not mark.exists()


# --- what a file may not cost ----------------------------------------------------------------------------------------


def weights(read: dict[str, Any]) -> dict[str, Any]:
    return next(iter(read["config"].values()))


WEIGHTS = "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(sizes=[{"as_int": 2**40}], strides=[{"as_int": 0}]),
        lambda meta: meta.update(sizes=[{"as_int": 2**40}], strides=[{"as_int": 1}]),
        lambda meta: meta.update(storage_offset={"as_int": 2**40}),
        lambda meta: meta.update(storage_offset={"as_int": -1}),
        lambda meta: meta["strides"][0].update(as_int=-1),
        lambda meta: meta.pop("sizes"),
    ],
)
def test_tensors_outside_of_what_is_stored_are_refused(
    model: bytes, change: Callable[[dict[str, Any]], object]
) -> None:
    bad = changed(model, lambda read: change(weights(read)["tensor_meta"]), WEIGHTS)
    assert failure(bad) == "bad-model"


def test_an_archive_does_not_grow_in_being_read(model: bytes) -> None:
    assert failure(packed(members(model), zipfile.ZIP_DEFLATED)) == "bad-model"


def test_graphs_too_large_to_parse_are_refused(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pt2, "_MOST_JSON_BYTES", 1000)
    assert failure(model) == "bad-model"


@pytest.mark.parametrize("text", ["[]", "1", "{", "[" * 100_000, '{"graph_module": 1}', '{"schema_version": {}}'])
def test_other_json_is_a_bad_model(model: bytes, text: str) -> None:
    assert failure(packed({**members(model), "archive/models/model.json": text.encode()})) == "bad-model"


def test_another_schema_is_named(model: bytes) -> None:
    newer = changed(model, lambda read: read["schema_version"].update(major=9))
    assert failure(newer) == "unsupported"


@pytest.mark.parametrize("kind", ["as_custom_obj", "as_graph", "as_operator", "as_device"])
def test_other_arguments_are_refused(model: bytes, kind: str) -> None:
    assert failure(changed(model, lambda read: first_node(read)["inputs"][0].update(arg={kind: {}}))) == "unsupported"


def test_damage_is_told_as_a_failure(model: bytes) -> None:
    """Bytes anywhere, and any leaf of the JSON: a model is refused, or it runs, and nothing else happens."""
    random = np.random.default_rng(3)
    backend = PyTorchBackend()
    spoiled = []
    for _ in range(40):
        data = bytearray(model)
        data[int(random.integers(len(data)))] ^= int(random.integers(1, 256))
        spoiled.append(bytes(data))
    for _ in range(80):
        spoiled.append(changed(model, lambda read: _spoil(read, random)))
    refused = Counter[str]()
    for data in spoiled:
        try:
            backend.load(data).close()
        except MeasurementFailed as error:
            refused[str(error.details["failure"])] += 1
    assert refused.keys() <= {"bad-model", "unsupported", "out-of-memory"}
    assert refused.total() > 20


def _spoil(read: Any, random: np.random.Generator) -> None:
    """Put something else at a place of the graph drawn at random."""
    place = read["graph_module"]["graph"]["nodes"]
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(random.integers(len(keys)))]
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.1:
            place[key] = [None, -1, 0, 3, "x", [], {}, 1.5, True][int(random.integers(9))]
            return
        place = inner
