"""ONNX files: written, run by ONNX Runtime against what operators mean, and read back as the same graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from leti.core.errors import InvalidGraph, InvalidInput, TooLarge
from leti.core.graph import Graph, Op, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import OPERATORS, make_operator
from leti.generator.importers import import_model
from leti.generator.lowering import ZEROS, lower
from leti.generator.spaces import SPACES

onnx = pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")
pytest.importorskip("onnxruntime")

import onnx_reference as reference
import operator_cases as cases
from evaluator import evaluate

from leti.generator.export.onnx import export_onnx, exporter
from leti.generator.weights import random_weights

SMALL = NetworkConfig(stem_channels=8, stacks=2, modules_per_stack=1)


def run(data: bytes, inputs, like=()):
    """Run a file on inputs that are channels last; return its outputs so, too, where ``like`` is."""
    given = {}
    for info, array in zip(onnx.load_from_string(data).graph.input, inputs, strict=True):
        shape = tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        given[info.name] = array if shape == array.shape else np.ascontiguousarray(np.moveaxis(array, -1, 1))
    made = reference.run(data, given)
    expected = like or made
    return [
        array if array.shape == known.shape else np.moveaxis(array, 1, -1)
        for array, known in zip(made, expected, strict=True)
    ]


def nodes(data: bytes) -> Counter[str]:
    """Return how many nodes of each type a file has."""
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    return Counter(node.op_type for node in model.graph.node if not node.output[0].startswith("output"))


# --- every operator --------------------------------------------------------------------------------------------------


def test_every_kind_of_operator_is_tried():
    assert {case.kind for case in cases.CASES} == set(OPERATORS)


@pytest.mark.parametrize("case", cases.SAID, ids=lambda case: case.name)
def test_onnxruntime_makes_of_an_operator_what_it_means(case):
    imported = case.imported()
    data = export_onnx(imported.graph, weights=imported.weights)
    nodes(data)
    expected = evaluate(case.draft, [array.astype(np.float64) for array in case.inputs])
    for array, known in zip(run(data, case.inputs, expected), expected, strict=True):
        np.testing.assert_allclose(array, known, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(known).max())))


@pytest.mark.parametrize("case", cases.SAID, ids=lambda case: case.name)
def test_an_exported_operator_is_imported_with_the_same_meaning_and_costs(case):
    from leti.generator.importers.onnx import read_onnx
    from leti.generator.importers.passes import fold, normalise

    imported = case.imported()
    model = onnx.load_from_string(export_onnx(imported.graph, weights=imported.weights))
    layout = "kept" if case.kind in ("transpose", "resize") else "free"  # where images might be left channels first
    draft = fold(normalise(read_onnx(model, {}), layout=layout))
    graph = draft.finish().graph
    assert not graph.unknown
    assert graph.macs == imported.graph.macs
    arrays = [array.astype(np.float64) for array in case.inputs]
    expected = evaluate(case.draft, arrays)
    given = [
        array if draft.types[value].shape == array.shape else np.moveaxis(array, -1, 1)
        for value, array in zip(draft.inputs, arrays, strict=True)
    ]
    for array, known in zip(evaluate(draft, given), expected, strict=True):
        array = array if array.shape == known.shape else np.moveaxis(array, 1, -1)
        np.testing.assert_allclose(array, known, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(known).max())))


@pytest.mark.parametrize("kind", sorted(cases.UNSAID))
def test_what_onnx_cannot_say_is_named(kind):
    (case,) = (case for case in cases.CASES if case.kind == kind)
    with pytest.raises(InvalidGraph, match="quantize"):
        export_onnx(case.imported().graph)


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", sorted(set(SPACES) - {"random"}))
@pytest.mark.parametrize("zero", ZEROS)
def test_what_was_lowered_and_exported_is_imported_as_the_same_graph(space, zero):
    for spec in SPACES[space].sample(3, 7, SMALL):
        graph = lower(spec, zero)
        assert import_model(onnx.load_from_string(export_onnx(graph))).graph == graph


def test_a_random_graph_is_imported_with_the_same_multiplications():
    """Operators that ONNX spells out come back as they are spelled."""
    for spec in SPACES["random"].sample(20, 7, SMALL):
        graph = lower(spec)
        imported = import_model(onnx.load_from_string(export_onnx(graph))).graph
        assert imported.macs == graph.macs
        assert not imported.unknown


AGREEMENT = {"mobilenetv3": 1e-2}
"""Of networks whose random weights amplify rounding; 1e-4 of the others."""


@pytest.mark.parametrize("space", sorted(set(SPACES)))
def test_onnxruntime_and_litert_agree_on_networks(space, run_model):
    from leti.generator.export.tflite import export_tflite

    for spec in SPACES[space].sample(2, 5, SMALL):
        graph = lower(spec)
        expected = run_model(export_tflite(graph, seed=3), seed=1)
        image = np.random.default_rng(1).standard_normal(graph.inputs[0].shape, dtype=np.float32)
        (made,) = run(export_onnx(graph, seed=3), [image], [expected])
        assert np.abs(made - expected).max() <= AGREEMENT.get(space, 1e-4) * np.abs(expected).max()


def test_weights_are_those_that_were_exported(tmp_path):
    for space in ("nasbench101", "mobilenetv3"):
        graph = lower(SPACES[space].sample(1, 3, SMALL)[0])
        weights = random_weights(graph, 11)
        path = tmp_path / "network.onnx"
        path.write_bytes(export_onnx(graph, weights=weights))
        assert import_model(path).weights is None
        imported = import_model(path, weights=True)
        digest = lambda table: Counter(array.tobytes() for arrays in table for array in arrays)  # noqa: E731
        assert digest(imported.weights) == digest(weights)
        again = export_onnx(imported.graph, weights=imported.weights)
        image = np.random.default_rng(0).standard_normal(graph.inputs[0].shape, dtype=np.float32)
        (once,), (twice,) = run(path.read_bytes(), [image]), run(again, [image])
        np.testing.assert_allclose(once, twice, rtol=1e-5, atol=1e-5)


def test_a_file_is_the_same_each_time_and_another_for_another_seed():
    graph = lower(SPACES["nasbench201"].sample(1, 0, SMALL)[0])
    assert export_onnx(graph, seed=1) == export_onnx(graph, seed=1) != export_onnx(graph, seed=2)


# --- the layout ------------------------------------------------------------------------------------------------------


def test_images_are_channels_first_and_nothing_is_transposed():
    graph = lower(SPACES["mobilenetv3"].sample(1, 0, SMALL)[0])
    data = export_onnx(graph)
    assert nodes(data)["Transpose"] == 0
    (info,) = onnx.load_from_string(data).graph.input
    batch, height, width, channels = graph.inputs[0].shape
    assert [dim.dim_value for dim in info.type.tensor_type.shape.dim] == [batch, channels, height, width]


def test_a_flattened_image_is_transposed_once_unless_its_elements_lie_alike():
    image = cases.of_one("max_pool2d", (1, 4, 4, 3), kernel=(1, 1), strides=(1, 1), padding="valid")
    for shape, transposed in (((1, 4, 4, 3), 1), ((1, 4, 4, 1), 0), ((1, 1, 1, 8), 0)):
        given = TensorType(shape)
        pool = make_operator("max_pool2d", (given,), (given,), image.ops[0].attributes)
        flat = TensorType((1, given.elements))
        flatten = make_operator("reshape", (given,), (flat,), ())
        dense = make_operator("fully_connected", (flat,), (TensorType((1, 2)),), ())
        graph = Graph((given,), (pool, flatten, dense), ((0,), (1,), (2,)), (3,))
        assert nodes(export_onnx(graph))["Transpose"] == transposed


def test_a_shuffle_of_channels_is_one_transposition():
    t, cut = TensorType((1, 4, 4, 6)), TensorType((1, 4, 4, 2, 3))
    window = (("kernel", (3, 3)), ("padding", "same"), ("strides", (1, 1)))
    pool = make_operator("max_pool2d", (t,), (t,), window)
    turned = TensorType((1, 4, 4, 3, 2))
    ops = (
        pool,
        make_operator("reshape", (t,), (cut,), ()),
        make_operator("transpose", (cut,), (turned,), (("perm", (0, 1, 2, 4, 3)),)),
        make_operator("reshape", (turned,), (t,), ()),
        pool,
    )
    graph = Graph((t,), ops, ((0,), (1,), (2,), (3,), (4,)), (5,))
    data = export_onnx(graph)
    assert nodes(data) == {"MaxPool": 2, "Reshape": 2, "Transpose": 1}
    assert import_model(onnx.load_from_string(data)).graph == graph


def test_an_input_that_is_an_output_is_written():
    graph = cases.of_one("relu", (1, 3))
    doubled = Graph(graph.inputs, graph.ops, graph.wiring, (0, 1, 1))
    x = np.asarray([[-1, 0, 2]], np.float32)
    made = run(export_onnx(doubled), [x])
    np.testing.assert_array_equal(made, [x, np.maximum(x, 0), np.maximum(x, 0)])


def test_half_precision_is_written():
    t = TensorType((1, 4, 4, 3), "float16")
    window = (("kernel", (3, 3)), ("padding", "same"), ("strides", (1, 1)))
    op = make_operator("conv2d", (t,), (TensorType((1, 4, 4, 2), "float16"),), window)
    graph = Graph((t,), (op,), ((0,),), (1,))
    data = export_onnx(graph)
    assert {tensor.data_type for tensor in onnx.load_from_string(data).graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert import_model(onnx.load_from_string(data)).graph == graph
    assert run(data, [np.ones(t.shape, np.float16)])[0].dtype == np.float16


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_operator_is_refused():
    t = TensorType((1, 3))
    graph = Graph((t,), (Op.of("unknown:Fancy", (t,), (t,)),), ((0,),), (1,))
    with pytest.raises(InvalidGraph, match="unknown:Fancy"):
        export_onnx(graph)


def test_quantised_weights_are_refused():
    with pytest.raises(InvalidGraph, match="int8"):
        export_onnx(cases.of_one("fully_connected", (1, 3), (1, 2), weight_dtype="int8"))


def test_other_weights_are_refused():
    with pytest.raises(InvalidInput, match="fully_connected"):
        export_onnx(cases.of_one("fully_connected", (1, 3), (1, 2)), weights=[[np.zeros((2, 3), np.float32)]])


def test_a_network_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(exporter, "MAX_PARAMS", 7)
    with pytest.raises(TooLarge):
        export_onnx(cases.of_one("fully_connected", (1, 3), (1, 2)))
