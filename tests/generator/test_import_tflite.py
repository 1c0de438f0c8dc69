"""TFLite files of every kind become graphs: of any precision, of open shapes, with operators that nobody knows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import weight_shapes
from leti.generator.importers import Imported, import_model
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SPACES

pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra `export` is not installed")

import tflite_files as files

from leti.generator.export.tflite import export_tflite
from leti.generator.importers.tflite import shapes as tflite_shapes
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.weights import random_weights

File = files.File

SMALL = NetworkConfig(stem_channels=8, stacks=2, modules_per_stack=1)


def only(imported: Imported):
    """Return the only operator of a graph."""
    (op,) = imported.graph.ops
    return op


def imported_op(file: File, inputs, outputs, *, weights: bool = False):
    """Return the operators of a file by kind, as the file has them, and the import itself."""
    imported = import_model(file.done(inputs, outputs), fold=False, weights=weights)
    return {op.kind: op for op in imported.graph.ops}, imported


# --- what the generator wrote ----------------------------------------------------------------------------------------


SPELLED_OUT = {"random"}
"""Spaces with operators that LiteRT has no builtin for: their files have others in their stead."""


@pytest.mark.parametrize("space", sorted(set(SPACES) - SPELLED_OUT))
@pytest.mark.parametrize("zero", ZEROS)
def test_what_was_lowered_and_exported_is_imported_as_the_same_graph(space, zero):
    for spec in SPACES[space].sample(3, 7, SMALL):
        graph = lower(spec, zero)
        assert import_model(export_tflite(graph)).graph == graph


@pytest.mark.parametrize("space", sorted(set(SPACES) - SPELLED_OUT))
@pytest.mark.parametrize("precision", sorted(set(PRECISIONS) - {"float32"}))
def test_a_file_of_any_precision_is_imported_as_the_graph_of_that_precision(space, precision):
    (spec,) = SPACES[space].sample(1, 9, NetworkConfig(stem_channels=16, stacks=2, modules_per_stack=1))
    graph = quantize(lower(spec), precision)
    imported = import_model(export_tflite(graph)).graph
    assert imported == graph != lower(spec)
    assert (imported.macs, imported.params, imported.weight_bytes) == (graph.macs, graph.params, graph.weight_bytes)


def test_operators_that_are_spelled_out_keep_what_they_cost():
    for spec in SPACES["random"].sample(3, 7, SMALL):
        graph = lower(spec)
        imported = import_model(export_tflite(graph)).graph
        assert imported.macs == graph.macs
        assert not imported.unknown


def test_weights_are_those_that_were_exported():
    spec = SPACES["nasbench101"].sample(1, 3, SMALL)[0]
    graph = lower(spec)
    weights = random_weights(graph, 11)
    data = export_tflite(graph, weights=weights)
    assert import_model(data).weights is None
    imported = import_model(data, weights=True)
    assert imported.graph == graph
    assert [tuple(array.shape for array in arrays) for arrays in imported.weights] == list(
        map(weight_shapes, imported.graph.ops)
    )
    digest = lambda table: Counter(array.tobytes() for arrays in table for array in arrays)  # noqa: E731
    assert digest(imported.weights) == digest(weights)
    assert all(array.dtype == np.float32 for arrays in imported.weights for array in arrays)


def test_a_network_imported_with_its_weights_computes_the_same(run_model):
    for spec in SPACES["nasbench201"].sample(3, 5, SMALL):
        data = export_tflite(lower(spec), seed=3)
        imported = import_model(data, weights=True)
        again = export_tflite(imported.graph, weights=imported.weights)
        np.testing.assert_allclose(run_model(again), run_model(data), rtol=1e-4, atol=1e-4)


def test_a_path_a_name_and_bytes_are_the_same_network(tmp_path):
    data = export_tflite(lower(SPACES["nasbench201"].sample(1, 0, SMALL)[0]))
    path = tmp_path / "Network.TFLITE"
    path.write_bytes(data)
    assert import_model(path).graph == import_model(str(path)).graph == import_model(data).graph
    assert import_model(path, weights=True).weights is not None
    path.unlink()


# --- precisions ------------------------------------------------------------------------------------------------------


def test_whole_numbers_are_read_with_their_scales():
    file = File()
    x = file.tensor((1, 4, 4, 2), "int8", scale=[0.5], zero=[3])
    y = file.tensor((1, 2, 2, 3), "int8", scale=[0.25], zero=[-1])
    stored = np.arange(-9, 9).reshape(3, 3, 1, 2).astype(np.int8)
    filters = file.tensor(stored.shape, "int8", stored, scale=[0.5, 1.0, 2.0], zero=[0, 0, 0])
    bias = file.tensor((3,), "int32", np.asarray([1, -2, 2**24 + 1], np.int32), scale=[0.25, 0.5, 1.0], zero=[0] * 3)
    file.operator("CONV_2D", [x, filters, bias], [y], "Conv2DOptions", padding=0, strideH=2, strideW=2)
    ops, imported = imported_op(file, [x], [y], weights=True)
    conv = ops["conv2d"]
    assert conv.inputs == (TensorType((1, 4, 4, 2), "int8"),)
    assert conv.attributes == (("kernel", (3, 1)), ("padding", "same"), ("strides", (2, 2)))
    assert conv.macs == 4 * 3 * 6
    assert conv.weight_bytes == 18 + 3 * 4
    ((kernel, offsets),) = imported.weights
    np.testing.assert_array_equal(kernel, stored * np.asarray([0.5, 1, 2], np.float32).reshape(3, 1, 1, 1))
    np.testing.assert_array_equal(offsets, np.asarray([0.25, -1, 2**24 + 1], np.float32))


def test_integer_filters_under_float_activations_say_their_type():
    file = File()
    x, y = file.tensor((2, 8)), file.tensor((2, 3))
    filters = file.tensor((3, 8), "int8", np.full((3, 8), 7, np.int8), scale=[0.1])
    file.operator("FULLY_CONNECTED", [x, filters, -1], [y], "FullyConnectedOptions")
    ops, imported = imported_op(file, [x], [y], weights=True)
    assert ops["fully_connected"].attributes == (("bias", False), ("weight_dtype", "int8"))
    assert ops["fully_connected"].weight_bytes == 24
    np.testing.assert_allclose(imported.weights[0][0], np.full((3, 8), 0.7), rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "stored", "values"),
    [
        ("int4", bytes([0x10, 0x72, 0x8F]), [0, 1, 2, 7, -1, -8]),
        ("int2", bytes([0b11_10_01_00, 0b0000_0001]), [0, 1, -2, -1, 1, 0]),
        ("bfloat16", np.asarray([0x3F80, 0xC000, 0, 0x3E80, 0x7F80, 0x3F80], np.uint16), [1, -2, 0, 0.25, math.inf, 1]),
        ("float16", np.asarray([1, -2, 0, 0.5, 65504, 1], np.float16), [1, -2, 0, 0.5, 65504, 1]),
        ("uint8", np.asarray([0, 1, 2, 128, 255, 3], np.uint8), [0, 1, 2, 128, 255, 3]),
        ("int16", np.asarray([0, -1, 2, 128, 32767, 3], np.int16), [0, -1, 2, 128, 32767, 3]),
    ],
)
def test_weights_of_every_precision_behind_a_dequantize_are_read(dtype, stored, values):
    """As float16 files have them; what reads them says how they are stored, and there is no operator for it."""
    file = File()
    x, y, filters = file.tensor((1, 2)), file.tensor((1, 3)), file.tensor((3, 2))
    scale = [0.5] if dtype.startswith(("int", "uint")) else []
    held = file.tensor((3, 2), dtype, stored, scale=scale)
    file.operator("DEQUANTIZE", [held], [filters], "DequantizeOptions")
    file.operator("FULLY_CONNECTED", [x, filters], [y], "FullyConnectedOptions", fusedActivationFunction=1)
    ops, imported = imported_op(file, [x], [y], weights=True)
    assert list(ops) == ["fully_connected", "relu"]
    assert ops["fully_connected"]["weight_dtype"] == dtype
    expected = np.asarray(values, np.float32).reshape(3, 2) * (0.5 if scale else 1)
    np.testing.assert_array_equal(imported.weights[0][0], expected)


# --- operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"), [(1, "relu"), (2, "relu_n1"), (3, "relu6"), (4, "tanh"), (5, "unknown:SIGN_BIT")]
)
def test_an_activation_inside_an_operator_becomes_one_after_it(code, kind):
    file = File()
    a, b, y = (file.tensor((1, 4)) for _ in range(3))
    file.operator("ADD", [a, b], [y], "AddOptions", fusedActivationFunction=code)
    imported = import_model(file.done([a, b], [y]))
    assert [op.kind for op in imported.graph.ops] == ["add", kind]
    assert imported.graph.wiring == ((0, 1), (2,))


@pytest.mark.parametrize(
    ("masks", "bounds", "made", "kinds", "begin", "strides"),
    [
        ({}, ((0, 1, 0), (2, 4, 5), (1, 1, 2)), (2, 3, 3), ["slice"], (0, 1, 0), (1, 1, 2)),
        ({"shrinkAxisMask": 2}, ((0, -1, 0), (2, 0, 5), (1, 1, 1)), (2, 5), ["slice", "reshape"], (0, 5, 0), ()),
        ({"beginMask": 1, "endMask": 1}, ((9,), (9,), (-1,)), (2, 6, 5), ["slice"], (1, 0, 0), (-1, 1, 1)),
        ({"ellipsisMask": 1}, ((0, 2), (0, 4), (1, 1)), (2, 6, 2), ["slice"], (0, 0, 2), ()),
        ({"newAxisMask": 1}, ((0, 0), (0, 2), (1, 1)), (1, 2, 6, 5), ["reshape"], None, None),
        (
            {"ellipsisMask": 2, "shrinkAxisMask": 5},
            ((1, 0, 3), (2, 0, 4), (1, 1, 1)),
            (6,),
            ["slice", "reshape"],
            (1, 0, 3),
            (),
        ),
        ({"offset": True}, ((0, 1), (2, 3), (1, 1)), (2, 3, 5), ["slice"], (0, 1, 0), ()),
    ],
)
def test_a_strided_slice_is_ranges_then_a_reshape(masks, bounds, made, kinds, begin, strides):
    file = File()
    x, y = file.tensor((2, 6, 5)), file.tensor(made)
    limits = [file.ints(*bound) for bound in bounds]
    file.operator("STRIDED_SLICE", [x, *limits], [y], "StridedSliceOptions", **masks)
    ops, _ = imported_op(file, [x], [y])
    assert list(ops) == kinds
    if begin is not None:
        assert ops["slice"].get("begin", ()) == begin
        assert ops["slice"].get("strides", ()) == strides


def test_a_fully_connected_layer_flattens_what_it_reads_unless_it_keeps_the_rank():
    def file_of(shape, made, **fields):
        file = File()
        x, y = file.tensor(shape), file.tensor(made)
        filters = file.tensor((3, 8), "float32", np.ones((3, 8), np.float32))
        file.operator("FULLY_CONNECTED", [x, filters], [y], "FullyConnectedOptions", **fields)
        return imported_op(file, [x], [y])[0]

    assert list(file_of((2, 2, 2, 2), (2, 3))) == ["reshape", "fully_connected"]
    assert list(file_of((2, 5, 8), (2, 5, 3), keepNumDims=True)) == ["fully_connected"]
    assert file_of((2, 5, 8), (2, 5, 3), keepNumDims=True)["fully_connected"].macs == 2 * 5 * 3 * 8
    assert file_of((2, 5, 8), (10, 3))["fully_connected"].macs == 2 * 5 * 3 * 8


def test_a_fully_connected_layer_of_two_values_is_a_product():
    file = File()
    x, w, y = file.tensor((4, 8)), file.tensor((3, 8)), file.tensor((4, 3))
    file.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnectedOptions")
    op = only(import_model(file.done([x, w], [y])))
    assert (op.kind, op["transpose_b"], op.macs) == ("matmul", True, 4 * 3 * 8)


def test_padding_is_written_in_one_way():
    """A window that needs no padding is the same whether the file calls it SAME or VALID."""

    def pool(padding: int, size: int, made: int):
        file = File()
        x, y = file.tensor((1, size, size, 2)), file.tensor((1, made, made, 2))
        window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
        file.operator("MAX_POOL_2D", [x], [y], "Pool2DOptions", padding=padding, **window)
        return only(import_model(file.done([x], [y])))["padding"]

    assert pool(0, 8, 4) == pool(1, 8, 4) == "same"
    assert pool(0, 7, 4) == "same"
    assert pool(1, 7, 3) == "valid"


def test_operators_that_nobody_knows_are_kept_with_their_shapes_and_constants():
    file = File()
    x, y, z = file.tensor((1, 4)), file.tensor((1, 7)), file.tensor((2,))
    table, number = file.tensor((3, 5), data=np.ones((3, 5), np.float32)), file.tensor((), data=np.float32(1))
    file.operator("CUSTOM", [x, table], [y, z], custom="MyDetector")
    kept = file.tensor((1, 7))
    file.operator("CUMSUM", [y, x], [kept])  # along an axis that is not known before the network runs
    last = file.tensor((1, 7))
    file.operator("BUCKETIZE", [kept, number], [last])
    imported = import_model(file.done([x], [last, z]))
    assert imported.graph.unknown == ("unknown:BUCKETIZE", "unknown:CUMSUM", "unknown:MyDetector")
    custom = next(op for op in imported.graph.ops if op.kind == "unknown:MyDetector")
    assert (custom.params, [t.shape for t in custom.outputs]) == (15, [(1, 7), (2,)])
    assert weight_shapes(custom) == ((3, 5),)


def test_control_flow_and_effects_are_kept_as_unknown():
    file = File()
    x, y, i, handle = file.tensor((1, 4)), file.tensor((1, 4)), file.tensor((), "int32"), file.tensor((), "resource")
    file.operator("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    file.operator("VAR_HANDLE", [], [handle], "VarHandleOptions")
    file.operator("ASSIGN_VARIABLE", [handle, x], [], "AssignVariableOptions")
    file.operator(
        "WHILE", [i, x], [file.tensor((), "int32"), y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=1
    )
    file.model.subgraphs.append(file.graph)
    imported = import_model(file.done([i, x], [y]))
    expected = ("unknown:ASSIGN_VARIABLE", "unknown:CALL_ONCE", "unknown:VAR_HANDLE", "unknown:WHILE")
    assert imported.graph.unknown == expected
    assert imported.graph == Graph.from_json(imported.graph.to_json())


# --- shapes that are left open ---------------------------------------------------------------------------------------


def open_file(signature, *, inner: bool = False) -> bytes:
    """Return a pool, or a reshape to two columns, over an input that leaves dimensions open."""
    file = File()
    shape = [1 if n < 0 else n for n in signature]
    x = file.tensor(shape, signature=signature, name="serving_default_image:0")
    if inner:
        y = file.tensor((1, 2), signature=(-1, 2))
        file.operator("RESHAPE", [x, file.ints(-1, 2)], [y], "ReshapeOptions", newShape=np.asarray([-1, 2], np.int32))
    else:
        y = file.tensor((shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3]), signature=signature)
        window = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2, "padding": 0}
        file.operator("MAX_POOL_2D", [x], [y], "Pool2DOptions", **window)
    return file.done([x], [y])


def test_an_open_batch_is_one():
    imported = import_model(open_file((-1, 8, 8, 3)))
    assert imported.graph.inputs == (TensorType((1, 8, 8, 3)),)


def test_other_open_shapes_are_asked_for():
    with pytest.raises(InvalidInput) as caught:
        import_model(open_file((-1, -1, -1, 3)))
    assert caught.value.field == "input_shapes"
    assert "--input-shape serving_default_image:0=1,?,?,3" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "image", "serving_default_image:0"])
def test_given_shapes_are_worked_out_by_litert(name):
    imported = import_model(open_file((-1, -1, -1, 3)), input_shapes={name: (2, 9, 6, 3)})
    assert imported.graph.inputs == (TensorType((2, 9, 6, 3)),)
    assert only(imported).outputs == (TensorType((2, 5, 3, 3)),)


def test_a_shape_inside_that_the_file_does_not_state_is_worked_out(tmp_path):
    path = tmp_path / "open.tflite"
    path.write_bytes(open_file((-1, 4, 4, 3), inner=True))
    assert only(import_model(path)).outputs == (TensorType((24, 2)),)


@pytest.mark.parametrize(
    "shapes", [{"picture": (1, 8, 8, 3)}, {"image": (1, 8, 8)}, {"image": (1, 0, 8, 3)}, {"": (-1, 8, 8, 3)}]
)
def test_shapes_that_fit_no_input_are_refused(shapes):
    with pytest.raises(InvalidInput) as caught:
        import_model(open_file((-1, -1, -1, 3)), input_shapes=shapes)
    assert caught.value.field == "input_shapes"


def test_a_file_that_litert_cannot_run_asks_for_fixed_shapes():
    file = File()
    x, y = file.tensor((1, 1), signature=(-1, -1)), file.tensor((1, 1), signature=(-1, -1))
    file.operator("CUSTOM", [x], [y], custom="Mystery")
    with pytest.raises(InvalidInput, match="LiteRT") as caught:
        import_model(file.done([x], [y]), input_shapes={"": (3, 4)})
    assert "fixed" in caught.value.remedy


def test_a_file_that_keeps_litert_busy_costs_no_more_than_its_time(monkeypatch):
    monkeypatch.setattr(tflite_shapes, "TIMEOUT_S", 0)
    with pytest.raises(InvalidInput, match="timed out"):
        import_model(open_file((-1, -1, -1, 3)), input_shapes={"": (2, 9, 6, 3)})
