"""Model files: written, run, read back; damaged and foreign ones refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import ArtifactError, InvalidGraph, InvalidInput, TooLarge
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.cost import make_unknown, weight_shapes
from leti.generator.lowering import ZEROS, lower
from leti.generator.precision import PRECISIONS, quantize
from leti.generator.reference import reference_spec
from leti.generator.spaces import SPACES
from leti.generator.spaces.nasbench201 import spec_of

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra `export` is not installed")

from leti.generator.export.tflite import METADATA_NAME, export_tflite, writer
from leti.generator.importers.embedded import read_network
from leti.generator.weights import random_weights

SMALL = NetworkConfig(stem_channels=4, stacks=2, modules_per_stack=1)
SPEC = spec_of("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|", SMALL)
FILE = export_tflite(lower(SPEC), source=(SPEC, "execute"))


def unpacked(data: bytes):
    return schema.ModelT.InitFromPackedBuf(data, 0)


def packed(model) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def described(**changes: object) -> bytes:
    """Return the file with other metadata."""
    model = unpacked(FILE)
    buffer = model.buffers[model.metadata[0].buffer]
    values = {**json.loads(bytes(buffer.data)), **changes}
    buffer.data = np.frombuffer(json.dumps(values).encode(), np.uint8)
    return packed(model)


# --- export ----------------------------------------------------------------------------------------------------------


def test_inputs_and_outputs_have_names_in_a_signature():
    from ai_edge_litert.interpreter import Interpreter

    given = np.random.default_rng(0).standard_normal((1, 32, 32, 3), dtype=np.float32)
    model = Interpreter(model_content=FILE, num_threads=1)
    runner = model.get_signature_runner("serving_default")
    named = {name: array.copy() for name, array in runner(input0=given).items()}
    del runner
    model.set_tensor(model.get_input_details()[0]["index"], given)
    model.invoke()
    assert list(named) == ["output0"]
    np.testing.assert_array_equal(named["output0"], model.get_tensor(model.get_output_details()[0]["index"]))


def test_a_file_is_the_same_each_time_and_another_for_another_seed():
    graph = lower(SPEC)
    assert export_tflite(graph, seed=1) == export_tflite(graph, seed=1) != export_tflite(graph, seed=2)


def test_the_file_computes_what_its_weights_say(run_model):
    """Twice the last layer's weights give twice the output."""
    spec = next(s for s in SPACES["nasbench101"].sample(50, 0, SMALL) if len(s.layers) == 3)
    graph = lower(spec)
    weights = random_weights(graph, 5)
    doubled = [
        tuple(array * 2 for array in arrays) if i == len(weights) - 1 else arrays for i, arrays in enumerate(weights)
    ]
    once = run_model(export_tflite(graph, weights=weights))
    np.testing.assert_allclose(run_model(export_tflite(graph, weights=doubled)), 2 * once, rtol=1e-5)
    np.testing.assert_array_equal(run_model(export_tflite(graph, seed=5)), once)


def test_random_weights_are_not_trivial():
    graph = lower(SPEC)
    for op, arrays in zip(graph.ops, random_weights(graph, 0), strict=True):
        assert tuple(array.shape for array in arrays) == weight_shapes(op)
        for array in arrays:
            assert array.dtype == np.float32
            assert np.count_nonzero(array) == array.size


def test_activations_stay_of_one_size_through_the_full_network(run_model):
    output = run_model(export_tflite(lower(reference_spec())))
    assert 1e-3 < np.abs(output).max() < 1e6


def test_constants_are_aligned():
    model = schema.Model.GetRootAs(FILE, 0)
    start = np.frombuffer(FILE, np.uint8).__array_interface__["data"][0]
    addresses = [
        model.Buffers(i).DataAsNumpy().__array_interface__["data"][0] - start for i in range(1, model.BuffersLength())
    ]
    assert len(addresses) > 10
    assert all(address % 16 == 0 for address in addresses)


def test_an_activation_is_inside_the_operator_before_it_where_nothing_else_reads_that():
    graph = lower(SPEC)
    model = unpacked(FILE)
    operators = model.subgraphs[0].operators
    readers = [sum(sources.count(value) for sources in graph.wiring) for value in range(len(graph.ops) + 1)]
    inside = [
        i
        for i, (op, (source, *_)) in enumerate(zip(graph.ops, graph.wiring, strict=True))
        if op.kind == "relu" and readers[source] == 1 and graph.ops[source - 1].kind != "concat"
    ]
    assert inside
    assert len(operators) == len(graph.ops) - len(inside)
    fused = [getattr(op.builtinOptions, "fusedActivationFunction", 0) for op in operators]
    assert fused.count(schema.ActivationFunctionType.RELU) == len(inside)
    assert model.description == b"leti"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda w: w[:-1], "weights"),
        (lambda w: [(), *w[1:]], "weights[0]"),
        (lambda w: [(w[0][0].transpose(), w[0][1]), *w[1:]], "weights[0]"),
        (lambda w: [tuple(a.astype(np.float64) for a in w[0]), *w[1:]], "weights[0]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, field):
    graph = lower(SPEC)
    with pytest.raises(InvalidInput) as caught:
        export_tflite(graph, weights=change(list(random_weights(graph, 0))))
    assert caught.value.field == field


def test_a_network_that_no_file_can_hold_is_refused():
    spec = dataclasses.replace(SPEC, config=NetworkConfig(stem_channels=4096))
    with pytest.raises(TooLarge) as caught:
        export_tflite(lower(spec))
    assert caught.value.field == "params"


def test_what_is_large_is_written_as_what_is_small(monkeypatch):
    graph = lower(SPEC)
    expected = export_tflite(graph)
    monkeypatch.setattr(writer, "_LARGE_BYTES", 16)
    assert export_tflite(graph) == expected
    monkeypatch.setattr(writer, "_ROOM_BYTES", 16)
    monkeypatch.setattr(writer, "_ROOM_EACH_BYTES", 0)
    assert export_tflite(graph) == expected, "a file that takes more than was set aside grows"
    monkeypatch.setattr(writer, "MAX_BYTES", 2_000)
    with pytest.raises(TooLarge, match="bytes of constants"):
        export_tflite(graph)


def test_writing_a_large_file_takes_little_more_than_the_file():
    """Run by a process of its own: the weights, the file being made, and the file."""
    pytest.importorskip("resource")
    ran = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    size, grown = map(int, ran.stdout.split())
    assert size > 150e6
    assert grown < 2.5 * size


LARGE = """
import resource
import numpy as np
from leti.core.graph import Graph, TensorType
from leti.generator.cost import make_operator
from leti.generator.export.tflite import export_tflite
read, made = TensorType((1, 4000)), TensorType((1, 10000))
graph = Graph((read,), (make_operator("fully_connected", (read,), (made,), ()),), ((0,),), (1,))
weights = ((np.ones((10000, 4000), np.float32), np.ones(10000, np.float32)),)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(export_tflite(graph, weights=weights)), 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_an_operator_without_a_tflite_form_is_refused():
    image = TensorType((1, 4, 4, 2))
    foreign = make_unknown("Einsum", (image,), (image,), ())
    with pytest.raises(InvalidGraph, match="unknown:Einsum"):
        export_tflite(Graph((image,), (foreign,), ((0,),), (1,)))


# --- import ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("zero", ZEROS)
def test_a_file_says_which_network_it_is(space, zero):
    for spec in SPACES[space].sample(3, 0, SMALL):
        assert read_network(export_tflite(lower(spec, zero), source=(spec, zero))) == (spec, zero)


@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_of_any_precision_says_which_network_it_is(space, precision):
    for spec in SPACES[space].sample(2, 0, SMALL):
        assert read_network(export_tflite(quantize(lower(spec), precision), source=(spec, "execute"))) == (
            spec,
            "execute",
        )


def test_a_file_without_a_source_is_refused():
    with pytest.raises(ArtifactError, match="does not say which network"):
        read_network(export_tflite(lower(SPEC)))


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\x00" * 4096, b"PK\x03\x04" + b"x" * 100, b"\xff\xff\xff\x7fTFL3" * 9]
)
def test_a_foreign_file_is_refused(data):
    with pytest.raises(ArtifactError) as caught:
        read_network(data)
    assert caught.value.field == "model"
    assert caught.value.remedy


OTHER = spec_of("|nor_conv_1x1~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|", SMALL)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec": OTHER.to_json()}, "another fingerprint"),
        ({"spec": OTHER.to_json(), "fingerprint": lower(OTHER).fingerprint()}, "not the network that it names"),
        ({"zero": "prune"}, "another fingerprint"),
        ({"zero": "prune", "fingerprint": lower(SPEC, "prune").fingerprint()}, "not the network that it names"),
        ({"zero": "keep"}, "zero"),
        ({"zero": ["execute"]}, "zero"),
        ({"spec": []}, "spec"),
        ({"spec": {**SPEC.to_json(), "space": "nowhere"}}, "no search space"),
        ({"fingerprint": 3}, "another fingerprint"),
        ({"format": 2}, "format 2"),
        ({"extra": 1}, "extra"),
        ({"precision": "full_integer"}, "another fingerprint"),
        ({"precision": "int8"}, "precision"),
        ({"precision": ["full_integer"]}, "precision"),
        (
            {"precision": "full_integer", "fingerprint": quantize(lower(SPEC), "full_integer").fingerprint()},
            "not the network that it names",
        ),
    ],
)
def test_a_file_that_is_not_the_network_it_names_is_refused(changes, says):
    with pytest.raises(ArtifactError, match=says):
        read_network(described(**changes))


def test_metadata_that_is_no_json_is_refused():
    for text in (b"{", b"[]", b"null", b"\xff", b"[" * 100_000):
        model = unpacked(FILE)
        model.buffers[model.metadata[0].buffer].data = np.frombuffer(text, np.uint8)
        with pytest.raises(ArtifactError):
            read_network(packed(model))


def change_stride(subgraph) -> None:
    subgraph.operators[0].builtinOptions.strideH = 2


def change_activation(subgraph) -> None:
    subgraph.operators[0].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU6


def change_kernel(subgraph) -> None:
    subgraph.tensors[subgraph.operators[0].inputs[1]].shape = np.asarray([4, 1, 1, 3], np.int32)


def change_wiring(subgraph) -> None:
    made = {int(op.outputs[0]) for op in subgraph.operators}
    addition = next(op for op in subgraph.operators if len(op.inputs) == 2 and made.issuperset(map(int, op.inputs)))
    addition.inputs = addition.inputs[[0, 0]]


def drop_operator(subgraph) -> None:
    subgraph.operators.pop()


def change_output(subgraph) -> None:
    subgraph.outputs = subgraph.inputs


def change_input(subgraph) -> None:
    subgraph.tensors[subgraph.inputs[0]].shape = np.asarray([1, 32, 32, 4], np.int32)


@pytest.mark.parametrize(
    "change",
    [change_stride, change_activation, change_kernel, change_wiring, drop_operator, change_output, change_input],
)
def test_a_file_whose_operators_were_changed_is_refused(change):
    model = unpacked(FILE)
    change(model.subgraphs[0])
    with pytest.raises(ArtifactError, match="is not the network that it names"):
        read_network(packed(model))


def test_a_file_repacked_by_another_writer_is_still_read():
    assert read_network(packed(unpacked(FILE))) == (SPEC, "execute")
    assert METADATA_NAME.encode() in FILE


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_never_crashes(data):
    damaged = bytearray(FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    try:
        spec, zero = read_network(bytes(damaged[:cut]))
    except ArtifactError:
        return
    assert (spec, zero) == (SPEC, "execute")


def test_tensors_of_a_file_have_names_of_their_own() -> None:
    """Quantizers know tensors by their names, those too that stand for a bias where there is none."""
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    value = builder.conv(builder.conv(builder.conv(0, 8, 1, bias=False), 8, 3, bias=False), 16, 1, bias=False)
    graph = builder.graph(value)
    tensors = unpacked(export_tflite(graph, weights=random_weights(graph, 0))).subgraphs[0].tensors
    names = [bytes(tensor.name) for tensor in tensors]
    assert len(set(names)) == len(names)
