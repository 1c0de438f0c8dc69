"""Damaged, endless and oversized ONNX models: a clear error, soon, and never anything but the project's own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leti.core.errors import ArtifactError, LetiError, TooLarge
from leti.core.graph import Graph
from leti.core.spec import NetworkConfig
from leti.generator.importers import import_model
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

onnx = pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")

from onnx import TensorProto, helper, numpy_helper

from leti.generator.export.onnx import export_onnx
from leti.generator.importers.onnx import file, read_onnx

SMALL = NetworkConfig(stem_channels=4, stacks=2, modules_per_stack=1)
FILES = [
    export_onnx(lower(SPACES[space].sample(4, 3, SMALL)[i]))
    for space, i in (("nasbench201", 0), ("nasbench101", 1), ("random", 0), ("random", 2), ("random", 3))
]
SHORT = sorted(FILES, key=len)[:3]


def _read(path: Path, data: bytes) -> None:
    """Import a file with everything it has; let nothing but errors of the project's own pass in silence."""
    path.write_bytes(data)
    with contextlib.suppress(LetiError):
        import_model(path, weights=True)


def _chain(count: int, op_type: str = "Relu") -> Any:
    nodes = [helper.make_node(op_type, [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, (1, 3))],
        [onnx.ValueInfoProto(name=f"v{count}")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


# --- damaged files ---------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_are_no_model(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(data)
    with pytest.raises(LetiError):
        import_model(path, weights=True)


def test_a_layer_s_name_need_not_be_text(tmp_path: Path) -> None:
    model = _chain(1)
    model.graph.node[0].name = "first"
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString().replace(b"first", b"fi\xffst"))
    assert import_model(path).names == ("fi\ufffdst",)


@pytest.mark.parametrize("file", SHORT, ids=range(len(SHORT)))
def test_a_truncated_file_is_damaged(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    for part in range(0, len(file) - 1, max(1, len(file) // 150)):
        path.write_bytes(file[:part])
        with pytest.raises(ArtifactError):
            import_model(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_raise_nothing_foreign(data: st.DataObject, tmp_path: Path) -> None:
    file = bytearray(data.draw(st.sampled_from(SHORT)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(file), 4000) - 1))
        file[at] = data.draw(st.integers(0, 255))
    _read(tmp_path / "network.onnx", bytes(file))


# --- models that parse but make no sense -----------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 7, -(2**31), 2**31, 2**62, -(2**63), 2**63 - 1])
OP_TYPES = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})


def _of_attribute(data: st.DataObject, node: Any) -> None:
    if node.attribute:
        attribute = node.attribute[data.draw(st.integers(0, len(node.attribute) - 1))]
        name = attribute.name
        change = data.draw(st.sampled_from(["number", "numbers", "real", "text", "tensor", "graph", "none", "gone"]))
        values = {
            "number": lambda: data.draw(NUMBERS),
            "numbers": lambda: data.draw(st.lists(NUMBERS, max_size=5)) or [0],
            "real": lambda: data.draw(st.floats()),
            "text": lambda: data.draw(st.sampled_from(["", "SAME_UPPER", "NOTSET", "constant", "cubic", "é"])),
            "tensor": lambda: numpy_helper.from_array(np.zeros((2, 0), np.float32)),
            "graph": lambda: helper.make_graph([], "empty", [], []),
        }
        if change == "gone":
            node.attribute.remove(attribute)
        elif change == "none":
            attribute.Clear()
            attribute.name = name
        else:
            attribute.CopyFrom(helper.make_attribute(name, values[change]()))


def _of_wiring(data: st.DataObject, node: Any) -> None:
    change = data.draw(st.sampled_from(["cut", "empty", "other", "more", "outputs"]))
    if change == "more":
        node.input.append(data.draw(st.sampled_from(["", "input0", "nothing"])))
    elif change == "outputs":
        node.output.append(data.draw(st.sampled_from(["", "more", "input0"])))
    elif node.input:
        i = data.draw(st.integers(0, len(node.input) - 1))
        if change == "cut":
            del node.input[i]
        else:
            node.input[i] = (
                "" if change == "empty" else data.draw(st.sampled_from(["input0", "constant0", "constant1"]))
            )


def _of_type(data: st.DataObject, node: Any) -> None:
    node.op_type = data.draw(st.sampled_from(OP_TYPES))


def _of_tensor(data: st.DataObject, model: Any) -> None:
    tensors = model.graph.initializer
    if tensors:
        tensor = tensors[data.draw(st.integers(0, len(tensors) - 1))]
        change = data.draw(st.sampled_from(["dims", "dtype", "values", "external"]))
        if change == "dims":
            tensor.dims[:] = data.draw(st.lists(NUMBERS, max_size=4))
        elif change == "dtype":
            tensor.data_type = data.draw(st.integers(-1, 30))
        elif change == "external":
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key=data.draw(st.sampled_from(["location", "offset", "length"])), value="-1")
        elif tensor.data_type == TensorProto.INT64:
            count = len(tensor.raw_data) // 8
            values = data.draw(st.lists(NUMBERS, min_size=count, max_size=count))
            tensor.raw_data = np.asarray(values, np.int64).tobytes()


def _of_model(data: st.DataObject, model: Any) -> None:
    change = data.draw(st.sampled_from(["opset", "input", "output", "no opset", "rank"]))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if change == "opset":
        model.opset_import.add(domain="", version=data.draw(st.integers(-1, 40)))
    elif change == "no opset":
        del model.opset_import[:]
    elif change == "input":
        dims[data.draw(st.integers(0, len(dims) - 1))].dim_value = data.draw(NUMBERS)
    elif change == "rank":
        del dims[1:]
    else:
        model.graph.output[0].name = "nothing"


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_models_that_make_no_sense_raise_nothing_foreign(data: st.DataObject) -> None:
    model = onnx.load_from_string(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 3))):
        node = model.graph.node[data.draw(st.integers(0, len(model.graph.node) - 1))]
        change, of = data.draw(
            st.sampled_from(
                [(_of_attribute, node), (_of_wiring, node), (_of_type, node), (_of_tensor, model), (_of_model, model)]
            )
        )
        change(data, of)
    with contextlib.suppress(LetiError):
        import_model(model, weights=True)


# --- endless and oversized models ------------------------------------------------------------------------------------


def test_a_hundred_thousand_nodes_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(_chain(100_000).SerializeToString())
    started = time.process_time()
    with pytest.raises(TooLarge, match="more than 20000 nodes"):
        import_model(path)
    assert time.process_time() - started < 10  # parsing is most of it, some 0.2 s on a free core


def test_a_hundred_thousand_nodes_in_memory_are_refused() -> None:
    with pytest.raises(TooLarge, match="100000 nodes"):
        import_model(_chain(100_000))


def _length(number: int) -> bytes:
    """Return a length as a protobuf writes it."""
    made = b""
    while number >= 0x80:
        made, number = made + bytes([number & 0x7F | 0x80]), number >> 7
    return made + bytes([number])


def _field(tag: int, value: bytes) -> bytes:
    return bytes([tag << 3 | 2]) + _length(len(value)) + value


MANY = file.MAX_FIELDS + 1


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (_field(1, b"") * MANY, "nodes"),
        (_field(5, b"") * MANY, "fields"),
        (_field(1, _field(1, b"") * MANY), "fields"),
        (_field(1, _field(5, _field(6, _field(1, b"") * MANY))), "nodes"),
        (_field(5, _field(4, bytes(130 * 2**20))), "beside its large tensors"),
    ],
    ids=["nodes", "initializers", "inputs of a node", "nodes of a branch", "floats"],
)
def test_what_would_unfold_in_memory_is_not_parsed(graph: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(_chain(2).SerializeToString() + _field(7, graph))
    with pytest.raises(TooLarge, match=says):
        import_model(path)


def test_a_model_of_nearly_two_gigabytes_stays_in_its_file(tmp_path: Path) -> None:
    """A file with a hole for weights, read by a process of its own."""
    rows, columns = 20_000, 22_500
    model = _chain(1)
    model.graph.node[0].CopyFrom(helper.make_node("MatMul", ["v0", "w"], ["v1"]))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = rows
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[rows, columns]).SerializeToString()
    head, size = tensor + bytes([9 << 3 | 2]) + _length(4 * rows * columns), 4 * rows * columns
    graph_head = bytes([5 << 3 | 2]) + _length(len(head) + size) + head
    path = tmp_path / "network.onnx"
    with path.open("wb") as made:
        made.write(model.SerializeToString() + bytes([7 << 3 | 2]) + _length(len(graph_head) + size) + graph_head)
        made.truncate(made.tell() + size)
    pytest.importorskip("resource")
    ran = subprocess.run([sys.executable, "-c", INSPECTED, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    params, grown_bytes = map(int, ran.stdout.split())
    assert params == rows * columns
    assert grown_bytes < 50e6


INSPECTED = """
import resource
import sys
import leti.generator.importers.onnx
from leti.generator.importers import import_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(import_model(sys.argv[1]).graph.params, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_large_tensors_are_read_from_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.onnx"
    for data in FILES:
        path.write_bytes(data)
        parsed = import_model(onnx.ModelProto.FromString(data), weights=True)
        for least in (1, 64, 4096):
            monkeypatch.setattr(file, "IN_PLACE_BYTES", least)
            read = import_model(path, weights=True)
            assert read.graph == parsed.graph
            assert read.names == parsed.names
            for ours, theirs in zip(read.weights, parsed.weights, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_file_that_shrinks_while_it_is_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "IN_PLACE_BYTES", 16)
    path = tmp_path / "network.onnx"
    path.write_bytes(FILES[0])
    draft = read_onnx(path, {})
    path.write_bytes(FILES[0][: len(FILES[0]) // 2])
    with pytest.raises(ArtifactError):
        draft.finish(weights=True)


def test_as_many_nodes_as_a_graph_may_have_are_read() -> None:
    assert len(import_model(_chain(Graph.MAX_OPS), fold=False).graph.ops) == Graph.MAX_OPS


def test_a_long_chain_of_constants_is_no_deep_recursion() -> None:
    model = _chain(5000)
    (weight,) = [numpy_helper.from_array(np.zeros((300, 300), np.float32), "w")]
    model.graph.initializer.append(weight)
    nodes = [helper.make_node("Neg", ["w" if i == 0 else f"w{i}"], [f"w{i + 1}"]) for i in range(5000)]
    model.graph.node.extend([*nodes, helper.make_node("MatMul", ["w5000", "w5000"], ["out"])])
    model.graph.output[0].name = "out"
    assert import_model(model, weights=True, fold=False).graph.outputs


def test_a_constant_is_not_spread_beyond_measure() -> None:
    model = _chain(1)
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([2**20, 2**20, 3], np.int64), "sizes"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["sizes"], ["huge"]))
    model.graph.node.append(helper.make_node("Add", ["v1", "huge"], ["out"]))
    model.graph.output[0].name = "out"
    imported = import_model(model, weights=True)
    assert imported.graph.unknown == ("unknown:ConstantOfShape",)


def _function(name: str, *calls: str) -> Any:
    values = [f"v{i}" for i in range(len(calls) + 1)]
    nodes = [
        helper.make_node(call, [a], [b], domain="own") for call, a, b in zip(calls, values, values[1:], strict=False)
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, values[:1], values[-1:], nodes, opsets)


def test_functions_that_call_themselves_are_refused() -> None:
    model = _chain(1)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[0].op_type, model.graph.node[0].domain = "A", "own"
    model.functions.extend([_function("A", "B"), _function("B", "A")])
    with pytest.raises(ArtifactError, match="calls itself"):
        import_model(model)


def test_functions_that_stand_for_too_much_are_refused_at_once() -> None:
    """A chain of functions that call the next ten times, ten to the twentieth nodes."""
    model = _chain(1)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[0].op_type, model.graph.node[0].domain = "F0", "own"
    model.functions.extend(_function(f"F{i}", *[f"F{i + 1}"] * 10) for i in range(20))
    with pytest.raises(TooLarge):
        import_model(model)


def test_a_model_without_a_network_is_none(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=10).SerializeToString())
    with pytest.raises(ArtifactError, match="no network"):
        import_model(path)
