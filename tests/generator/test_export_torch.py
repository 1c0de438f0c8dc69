"""PyTorch's exported programs: written, run by PyTorch against what operators mean, and read back as the same graph."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections import Counter
from typing import Any

import numpy as np
import operator_cases as cases
import pytest
from evaluator import evaluate

from leti.core.errors import InvalidGraph, InvalidInput, TooLarge
from leti.core.graph import Graph, Op, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.cost import OPERATORS, make_operator
from leti.generator.export.torch import export_torch, exporter
from leti.generator.importers import import_model
from leti.generator.lowering import ZEROS, lower
from leti.generator.precision import quantized
from leti.generator.spaces import SPACES
from leti.generator.weights import random_weights

SMALL = NetworkConfig(stem_channels=8, stacks=2, modules_per_stack=1)


def program(data: bytes) -> dict[str, Any]:
    """Return the JSON of a file's graph."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return json.loads(archive.read("archive/models/model.json"))["graph_module"]["graph"]


def calls(data: bytes) -> Counter[str]:
    """Return how often a file calls each operator."""
    return Counter(node["target"].removeprefix("torch.ops.aten.") for node in program(data)["nodes"])


def input_shapes(data: bytes) -> list[tuple[int, ...]]:
    graph = program(data)
    names = [item["as_tensor"]["name"] for item in graph["inputs"]]
    metas = [graph["tensor_values"][name] for name in names if name[:2] not in ("p_", "b_")]
    return [tuple(size["as_int"] for size in meta["sizes"]) for meta in metas]


def run(data: bytes, inputs, like=()):
    """Run a file in PyTorch on inputs that are channels last; return its outputs so, too, where ``like`` is.

    What each call makes must be of the type that the file states.
    """
    torch = pytest.importorskip("torch", reason="the extra `pytorch` is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        exported = torch.export.load(io.BytesIO(data))

    class Checked(torch.fx.Interpreter):
        def run_node(self, node):
            made, stated = super().run_node(node), node.meta.get("val")
            if isinstance(stated, torch.Tensor):
                assert (tuple(made.shape), made.dtype) == (tuple(stated.shape), stated.dtype), node
            return made

    given = [
        array if shape == array.shape else np.ascontiguousarray(np.moveaxis(array, -1, 1))
        for array, shape in zip(inputs, input_shapes(data), strict=True)
    ]
    kept = [exported.state_dict[spec.target] for spec in exported.graph_signature.input_specs if spec.target]
    with torch.inference_mode():
        made = Checked(exported.graph_module).run(*kept, *map(torch.from_numpy, given))
    arrays = [tensor.numpy() for tensor in made]
    return [
        array if array.shape == known.shape else np.moveaxis(array, 1, -1)
        for array, known in zip(arrays, like or arrays, strict=True)
    ]


# --- every operator --------------------------------------------------------------------------------------------------


def test_every_kind_of_operator_is_tried():
    assert {case.kind for case in cases.CASES} == set(OPERATORS)


@pytest.mark.parametrize("case", cases.SAID, ids=lambda case: case.name)
def test_pytorch_makes_of_an_operator_what_it_means(case):
    imported = case.imported()
    expected = evaluate(case.draft, [array.astype(np.float64) for array in case.inputs])
    made = run(export_torch(imported.graph, weights=imported.weights), case.inputs, expected)
    for array, known in zip(made, expected, strict=True):
        np.testing.assert_allclose(array, known, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(known).max())))


@pytest.mark.parametrize("case", cases.SAID, ids=lambda case: case.name)
def test_an_exported_operator_is_imported_with_the_same_multiplications(case):
    graph = case.imported().graph
    again = import_model(export_torch(graph)).graph
    assert again.macs == graph.macs
    assert case.kind == "gather_nd" or not again.unknown


WINDOWS = [
    # (kind, size, kernel, stride, padding), each of a square image of 7 channels
    ("avg_pool2d", 8, 2, 1, "same"),  # PyTorch pads before as after: a row more, cut off
    ("avg_pool2d", 9, 4, 3, "same"),
    ("avg_pool2d", 8, 3, 2, "same"),  # rounded up
    ("avg_pool2d", 9, 4, 1, (0, 3, 0, 3)),  # padded by itself
    ("avg_pool2d", 8, 3, 2, (2, 2, 2, 2)),  # more than half a window
    ("max_pool2d", 8, 2, 1, "same"),
    ("max_pool2d", 8, 3, 2, (2, 0, 0, 2)),
    ("max_pool2d", 8, 3, 2, "same"),
]


@pytest.mark.parametrize(("kind", "size", "kernel", "stride", "padding"), WINDOWS)
@pytest.mark.parametrize("count_padding", [False, True])
def test_pools_have_the_windows_and_the_shares_that_are_meant(kind, size, kernel, stride, padding, count_padding):
    if count_padding and kind == "max_pool2d":
        pytest.skip("nothing to count")
    padded = size + sum(padding[:2]) if padding != "same" else None
    made = -(-size // stride) if padded is None else (padded - kernel) // stride + 1
    more = {"count_padding": True} if count_padding else {}
    case = cases._case(
        kind,
        [(1, size, size, 7)],
        [(1, made, made, 7)],
        **cases._window((kernel, kernel), (stride, stride), padding, **more),
    )
    graph = case.imported().graph
    (expected,) = evaluate(case.draft, [array.astype(np.float64) for array in case.inputs])
    (array,) = run(export_torch(graph), case.inputs, [expected])
    np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [(0, 1, 1, 0), (2, 0, 0, 2), (1, 1, 0, 0)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions_are_cut_or_padded_on_either_side(padding, stride):
    sizes = (5, 4)
    made = tuple(
        (n - 1) * stride + 3 - before - after
        for n, before, after in zip(sizes, padding[::2], padding[1::2], strict=True)
    )
    window = cases._window((3, 3), (stride, stride), padding)
    case = cases._case("transpose_conv2d", [(1, *sizes, 4)], [(1, *made, 6)], **window, groups=2)
    imported = case.imported()
    (expected,) = evaluate(case.draft, [array.astype(np.float64) for array in case.inputs])
    (array,) = run(export_torch(imported.graph, weights=imported.weights), case.inputs, [expected])
    np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-4)


# --- networks --------------------------------------------------------------------------------------------------------

RESPELT = {"random", "chains"}
"""Spaces with operators that programs spell out, such as pools of even windows whose size is kept."""


@pytest.mark.parametrize("space", sorted(set(SPACES) - RESPELT))
@pytest.mark.parametrize("zero", ZEROS)
def test_what_was_lowered_and_exported_is_imported_as_the_same_graph(space, zero):
    for spec in SPACES[space].sample(3, 7, SMALL):
        graph = lower(spec, zero)
        assert import_model(export_torch(graph)).graph == graph


@pytest.mark.parametrize("space", sorted(RESPELT))
def test_what_is_spelled_out_has_the_same_multiplications(space):
    for spec in SPACES[space].sample(20, 7, SMALL):
        graph = lower(spec)
        again = import_model(export_torch(graph)).graph
        assert again.macs == graph.macs
        assert not again.unknown


AGREEMENT = {"mobilenetv3": 1e-2}
"""Of networks whose random weights amplify rounding; 1e-4 of the others."""


@pytest.mark.parametrize("space", sorted(SPACES))
def test_pytorch_and_litert_agree_on_networks(space, run_model):
    from leti.generator.export.tflite import export_tflite

    for spec in SPACES[space].sample(2, 5, SMALL):
        graph = lower(spec)
        expected = run_model(export_tflite(graph, seed=3), seed=1)
        image = np.random.default_rng(1).standard_normal(graph.inputs[0].shape, dtype=np.float32)
        (made,) = run(export_torch(graph, seed=3), [image], [expected])
        assert np.abs(made - expected).max() <= AGREEMENT.get(space, 1e-4) * np.abs(expected).max()


def test_weights_are_those_that_were_exported():
    for space in ("nasbench101", "mobilenetv3"):
        graph = lower(SPACES[space].sample(1, 3, SMALL)[0])
        weights = random_weights(graph, 11)
        imported = import_model(export_torch(graph, weights=weights), weights=True)
        digest = lambda table: Counter(array.tobytes() for arrays in table for array in arrays)  # noqa: E731
        assert digest(imported.weights) == digest(weights)


def test_a_file_is_the_same_each_time_and_another_for_another_seed():
    graph = lower(SPACES["nasbench201"].sample(1, 0, SMALL)[0])
    assert export_torch(graph, seed=1) == export_torch(graph, seed=1) != export_torch(graph, seed=2)


def test_files_are_written_without_pytorch():
    lines = (
        "import sys",
        "from leti.core.spec import NetworkConfig",
        "from leti.generator.export.torch import export_torch",
        "from leti.generator.lowering import lower",
        "from leti.generator.spaces import SPACES",
        "export_torch(lower(SPACES['nasbench201'].sample(1, 0, NetworkConfig(modules_per_stack=1))[0]))",
        "assert 'torch' not in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_nothing_in_a_file_is_pickled():
    with zipfile.ZipFile(io.BytesIO(export_torch(cases.of_one("relu", (1, 3))))) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert held.pop("archive/data/sample_inputs/model.pt") == b""
    assert not any(name.endswith((".pt", ".pkl")) for name in held)


# --- what PyTorch would write ----------------------------------------------------------------------------------------


def traced(module: Any, shape: tuple[int, ...]) -> bytes:
    """Return the file that PyTorch itself writes of a module."""
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        torch.export.save(torch.export.export(module, (torch.zeros(shape),)), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("space", ["nasbench201", "mobilenetv3"])
def test_pytorch_traces_a_file_as_the_calls_that_it_holds(space):
    torch = pytest.importorskip("torch", reason="the extra `pytorch` is not installed")
    data = export_torch(lower(SPACES[space].sample(1, 1, SMALL)[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        module = torch.export.load(io.BytesIO(data)).module()
    (shape,) = input_shapes(data)
    ours, theirs = program(data), program(traced(module, shape))
    for mine, its in zip(ours["nodes"], theirs["nodes"], strict=True):
        assert mine["target"] == its["target"]
        said = {item["name"]: item["arg"] for item in mine["inputs"]}
        for item in its["inputs"]:  # which leaves out what is as the schema has it
            if not any(kind in item["arg"] for kind in ("as_tensor", "as_tensors")):
                assert said[item["name"]] == item["arg"], (mine, item)
    fields = ("dtype", "sizes", "strides")
    for mine, its in zip(ours["nodes"], theirs["nodes"], strict=True):
        ((_, name),) = mine["outputs"][0].items()
        ((_, other),) = its["outputs"][0].items()
        metas = (ours["tensor_values"][name["name"]], theirs["tensor_values"][other["name"]])
        assert [metas[0][key] for key in fields] == [metas[1][key] for key in fields]


def test_a_network_is_written_as_its_users_write_it():
    torch = pytest.importorskip("torch", reason="the extra `pytorch` is not installed")
    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Hardswish(),
        nn.Flatten(),
        nn.Linear(512, 10),
    ).eval()
    given = traced(network, (1, 3, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        graph = import_model(torch.export.load(io.BytesIO(given)), fold=False).graph
    targets = [node["target"] for node in program(export_torch(graph))["nodes"]]
    wanted = [node["target"].replace("flatten.using_ints", "reshape.default") for node in program(given)["nodes"]]
    assert [target for target in targets if "permute" not in target] == wanted


# --- the layout ------------------------------------------------------------------------------------------------------


def test_images_are_channels_first_and_nothing_is_permuted():
    graph = lower(SPACES["mobilenetv3"].sample(1, 0, SMALL)[0])
    data = export_torch(graph)
    assert calls(data)["permute.default"] == 0
    batch, height, width, channels = graph.inputs[0].shape
    assert input_shapes(data) == [(batch, channels, height, width)]


def test_an_input_that_is_an_output_is_returned():
    graph = cases.of_one("relu", (1, 3))
    doubled = Graph(graph.inputs, graph.ops, graph.wiring, (0, 1, 1))
    x = np.asarray([[-1, 0, 2]], np.float32)
    np.testing.assert_array_equal(run(export_torch(doubled), [x]), [x, np.maximum(x, 0), np.maximum(x, 0)])


def test_half_precision_is_written():
    t = TensorType((1, 4, 4, 3), "float16")
    window = (("kernel", (3, 3)), ("padding", "same"), ("strides", (1, 1)))
    op = make_operator("conv2d", (t,), (TensorType((1, 4, 4, 2), "float16"),), window)
    graph = Graph((t,), (op,), ((0,),), (1,))
    data = export_torch(graph)
    assert import_model(data).graph == graph
    assert run(data, [np.ones(t.shape, np.float16)])[0].dtype == np.float16


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(cases.UNSAID))
def test_what_pytorch_cannot_say_is_named(kind):
    (case,) = (case for case in cases.CASES if case.kind == kind)
    with pytest.raises(InvalidGraph, match="quantize"):
        export_torch(case.imported().graph)


def test_an_unknown_operator_is_refused():
    t = TensorType((1, 3))
    graph = Graph((t,), (Op.of("unknown:Fancy", (t,), (t,)),), ((0,),), (1,))
    with pytest.raises(InvalidGraph, match="unknown:Fancy"):
        export_torch(graph)


@pytest.mark.parametrize("precision", ["full_integer", "dynamic_range"])
def test_a_quantised_network_is_refused(precision):
    graph = quantized(lower(SPACES["nasbench201"].sample(1, 0, SMALL)[0]), precision).graph
    with pytest.raises(InvalidGraph, match=r"quanti[sz]e") as caught:
        export_torch(graph)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("resize", {"method": "nearest", "coordinates": "align_corners"}),
        ("pad", {"paddings": (0, 0, 0, 0, 0, 0, 1, 1), "mode": "reflect"}),
    ],
)
def test_what_an_operator_cannot_do_in_pytorch_is_said(kind, attributes):
    made = (1, 4, 4, 5) if kind == "pad" else (1, 8, 8, 3)
    with pytest.raises(InvalidGraph, match=f"'{kind}' has no PyTorch form: "):
        export_torch(cases.of_one(kind, (1, 4, 4, 3), made, **attributes))


def test_other_weights_are_refused():
    with pytest.raises(InvalidInput, match="fully_connected"):
        export_torch(cases.of_one("fully_connected", (1, 3), (1, 2)), weights=[[np.zeros((2, 3), np.float32)]])


def test_a_network_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(exporter, "MAX_PARAMS", 7)
    with pytest.raises(TooLarge):
        export_torch(cases.of_one("fully_connected", (1, 3), (1, 2)))
