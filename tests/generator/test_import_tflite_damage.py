"""TFLite files that are damaged, absurd or too large are refused in bounded time, and crash nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leti.core.errors import ArtifactError, InvalidGraph, InvalidInput, LetiError, TooLarge
from leti.core.spec import NetworkConfig
from leti.generator.importers import import_model
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the extra `export` is not installed")

import tflite_files as files

from leti.generator.export.tflite import export_tflite
from leti.generator.importers.tflite import file as tflite_file
from leti.generator.importers.tflite import read_tflite

File = files.File

SMALL = NetworkConfig(stem_channels=8, stacks=2, modules_per_stack=1)


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\x00" * 4096, b"PK\x03\x04" + b"x" * 100, b"\xff\xff\xff\x7fTFL3" * 9, b"\x08\0\0\0TFL3"]
)
def test_a_foreign_file_is_refused(data, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        import_model(path)
    assert caught.value.field == "model"


def test_a_hundred_thousand_operators_are_too_many_at_once(monkeypatch):
    model = files.unpacked(files.unary(count=2))
    model.subgraphs[0].operators *= 50_000
    data = files.packed(model)
    monkeypatch.delattr(tflite_file.TfliteFile, "operators")  # their number is told, and none of them is read
    with pytest.raises(TooLarge, match="100000 operators"):
        import_model(data)


def test_operands_are_limited(monkeypatch):
    monkeypatch.setattr(tflite_file, "MAX_OPERANDS", 100)
    import_model(files.unary(count=50))
    with pytest.raises(TooLarge, match="operands"):
        import_model(files.unary(count=51))


def test_constants_are_limited_though_they_share_their_bytes(monkeypatch):
    file = File()
    x, y = file.tensor((1, 64)), file.tensor((5, 64))
    value = file.tensor((1, 64), data=np.ones((1, 64), np.float32))
    shared = [value] + [file.tensor((1, 64)) for _ in range(3)]
    for number in shared:
        file.graph.tensors[number].buffer = 1
    file.operator("CONCATENATION", [x, *shared], [y], "ConcatenationOptions", axis=0)
    data = file.done([x], [y])
    monkeypatch.setattr(tflite_file, "MAX_CONSTANT_BYTES", 4 * 256)
    import_model(data)
    monkeypatch.setattr(tflite_file, "MAX_CONSTANT_BYTES", 4 * 256 - 1)
    with pytest.raises(TooLarge, match="constants"):
        import_model(data)


def test_a_long_list_where_a_few_numbers_are_due_is_refused():
    file = File()
    x, y = file.tensor((1, 4)), file.tensor((4, 1))
    many = file.tensor((70_000,), "int32", np.zeros(70_000, np.int32))
    file.operator("TRANSPOSE", [x, many], [y])
    with pytest.raises(TooLarge, match="whole numbers"):
        import_model(file.done([x], [y]))


def damage_size(file) -> None:
    file.model.buffers[1].data = file.model.buffers[1].data[:-1]


def damage_order(file) -> None:
    file.graph.operators.reverse()


def damage_cycle(file) -> None:
    file.graph.operators[0].inputs[0] = file.graph.operators[1].outputs[0]


def damage_tensor(file) -> None:
    file.graph.operators[0].inputs[0] = 1000


def damage_output(file) -> None:
    file.graph.operators[1].outputs[0] = file.graph.operators[0].outputs[0]


def damage_code(file) -> None:
    file.graph.operators[0].opcodeIndex = 17


def damage_options(file) -> None:
    file.graph.operators[0].builtinOptionsType = files.schema.BuiltinOptions.Pool2DOptions


def damage_operand(file) -> None:
    file.graph.operators[0].inputs = file.graph.operators[0].inputs[:1]


def damage_rank(file) -> None:
    file.graph.tensors[0].shape = np.ones(1000, np.int32)


def damage_buffer(file) -> None:
    file.graph.tensors[1].buffer = 99


def damage_dtype(file) -> None:
    file.graph.tensors[0].type = 99


def damage_scales(file) -> None:
    quantization = files.schema.QuantizationParametersT()
    quantization.scale, quantization.quantizedDimension = np.ones(5, np.float32), 0
    file.graph.tensors[1].quantization = quantization
    file.graph.tensors[1].type = files.schema.TensorType.INT32


def damage_outputs(file) -> None:
    file.graph.outputs = np.zeros(0, np.int32)


@pytest.mark.parametrize(
    "damage",
    [
        *(damage_size, damage_order, damage_cycle, damage_tensor, damage_output, damage_code, damage_options),
        *(damage_operand, damage_rank, damage_buffer, damage_dtype, damage_scales, damage_outputs),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_called_damaged(damage):
    file = File()
    x, filters = file.tensor((1, 4, 4, 2)), file.tensor((2, 1, 1, 2), data=np.ones((2, 1, 1, 2), np.float32))
    y, z = file.tensor((1, 4, 4, 2)), file.tensor((1, 4, 4, 2))
    file.operator("CONV_2D", [x, filters], [y], "Conv2DOptions", strideH=1, strideW=1)
    file.operator("RELU", [y], [z])
    data = file.done([x], [z])
    assert import_model(data, weights=True).graph.macs == 64
    file.graph.inputs, file.graph.outputs = np.asarray([x], np.int32), np.asarray([z], np.int32)
    damage(file)
    with pytest.raises(ArtifactError, match="damaged"):
        import_model(files.packed(file.model), weights=True)


@pytest.mark.parametrize(
    ("made", "fields"),
    [
        ((1, 3, 4, 3), {}),
        ((2, 4, 4, 3), {}),
        ((1, 4, 4, 6), {}),
        ((1, 4, 4, 2), {"strideH": 0}),
        ((1, 4, 4, 2), {"padding": 7}),
        ((1, 4, 4, 2), {"dilationHFactor": -1}),
        ((1, 4, 4, 0), {}),
        ((48,), {}),
    ],
)
def test_shapes_that_do_not_follow_from_each_other_are_refused(made, fields):
    file = File()
    x, filters = file.tensor((1, 4, 4, 2)), file.tensor((3, 1, 1, 2), data=np.ones((3, 1, 1, 2), np.float32))
    y = file.tensor(made)
    file.operator("CONV_2D", [x, filters], [y], "Conv2DOptions", **{"strideH": 1, "strideW": 1, **fields})
    with pytest.raises(InvalidGraph):
        import_model(file.done([x], [y]))


def test_a_claim_of_two_gigabytes_takes_neither_time_nor_memory():
    file = File()
    x, y = file.tensor((1, 2**15)), file.tensor((1, 2**15))
    filters = file.tensor((2**15, 2**15), data=np.ones(4, np.float32))
    file.operator("FULLY_CONNECTED", [x, filters], [y], "FullyConnectedOptions")
    with pytest.raises(ArtifactError, match="takes 4294967296 bytes, the file has 16"):
        import_model(file.done([x], [y]), weights=True)


def test_weights_that_cannot_be_had_are_only_missed_when_asked_for():
    file = File()
    x, y = file.tensor((1, 4)), file.tensor((1, 4))
    filters = file.tensor((4, 4))
    file.graph.tensors[filters].externalBuffer = 1
    file.operator("FULLY_CONNECTED", [x, filters], [y], "FullyConnectedOptions")
    data = file.done([x], [y])
    assert import_model(data).graph.params == 16
    with pytest.raises(InvalidInput, match="outside the file"):
        import_model(data, weights=True)


def _fuzzed() -> list[bytes]:
    """Return small files that between them hold many operators, quantised ones among them."""
    networks = [export_tflite(lower(SPACES["nasbench201"].sample(1, seed, SMALL)[0])) for seed in (0, 1)]
    file = File()
    x = file.tensor((1, 6, 6, 4), "int8", scale=[0.5], zero=[1])
    filters = file.tensor((1, 3, 3, 4), "int8", np.ones(36, np.int8), scale=[0.1, 0.2, 0.3, 0.4], dimension=3)
    bias = file.tensor((4,), "int32", np.ones(4, np.int32), scale=[0.1, 0.2, 0.3, 0.4])
    made = [file.tensor((1, 6, 6, 4), "int8", scale=[0.5]) for _ in range(2)]
    window = {"strideH": 1, "strideW": 1, "depthMultiplier": 1, "fusedActivationFunction": 3}
    file.operator("DEPTHWISE_CONV_2D", [x, filters, bias], [made[0]], "DepthwiseConv2DOptions", **window)
    file.operator("MUL", [made[0], made[0]], [made[1]], "MulOptions")
    padded, cut, parts = file.tensor((1, 8, 9, 4), "int8"), file.tensor((1, 8, 4), "int8"), []
    file.operator("PAD", [made[1], file.tensor((4, 2), "int32", np.int32([0, 0, 1, 1, 2, 1, 0, 0]))], [padded])
    bounds = [file.ints(0, 0, 1, 0), file.ints(0, 0, 2, 0), file.ints(1, 1, 1, 1)]
    masks = {"beginMask": 11, "endMask": 11, "shrinkAxisMask": 4}
    file.operator("STRIDED_SLICE", [padded, *bounds], [cut], "StridedSliceOptions", **masks)
    parts = [file.tensor((1, 8, 2), "int8") for _ in range(2)]
    file.operator("SPLIT", [file.tensor((), "int32", np.int32(2)), cut], parts, "SplitOptions", numSplits=2)
    real, turned, chosen = file.tensor((1, 8, 2)), file.tensor((1, 2, 8)), file.tensor((1, 2, 3))
    file.operator("DEQUANTIZE", [parts[0]], [real])
    file.operator("TRANSPOSE", [real, file.ints(0, 2, 1)], [turned])
    file.operator("GATHER", [turned, file.ints(0, 3, 5)], [chosen], "GatherOptions", axis=2)
    last = file.tensor((1, 2))
    file.operator("MEAN", [chosen, file.ints(-1)], [last], "ReducerOptions")
    custom = file.tensor((1, 2))
    file.operator("CUSTOM", [last], [custom], custom="Mystery")
    return [*networks, file.done([x], [custom, parts[1]])]


FUZZED = _fuzzed()
WORDS = st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF]) | st.integers(0, 2**32 - 1)


def test_the_files_to_damage_are_whole():
    for data in FUZZED:
        assert import_model(data, weights=True).graph.macs > 0


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_never_crashes(data):
    damaged = bytearray(data.draw(st.sampled_from(FUZZED)))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(damaged) - 4))
        if data.draw(st.booleans()):
            damaged[place] = data.draw(st.integers(0, 255))
        else:
            damaged[place : place + 4] = data.draw(WORDS).to_bytes(4, "little")
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(8, len(damaged))))
    damaged[4:8] = b"TFL3"
    try:
        imported = import_model(bytes(damaged[:cut]), weights=data.draw(st.booleans()))
    except LetiError:
        return
    assert imported.graph.ops


@settings(max_examples=200, deadline=None)
@given(head=st.binary(min_size=4, max_size=4), rest=st.binary(max_size=200))
def test_random_bytes_that_claim_to_be_a_model_are_refused(head, rest):
    with pytest.raises(LetiError):
        import_model(head + b"TFL3" + rest)


def test_a_file_that_is_cut_off_while_it_is_read_ends_no_process(tmp_path):
    path = tmp_path / "model.tflite"
    data = export_tflite(lower(SPACES["nasbench201"].sample(1, 0, NetworkConfig())[0]))
    path.write_bytes(data)
    draft = read_tflite(path, {})
    path.write_bytes(b"")
    assert draft.finish(weights=True).graph.macs == import_model(data).graph.macs
