"""The TFLite writer against TensorFlow's converter: the same operators, the same numbers, the same latency.

In full integers the same numbers come of the same ranges. The converter's are wider where an operator works in place:
its calibrator looks at what an operator read once it has run, and there sees what it made. So the two are held against
float32, each by itself.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter

import numpy as np
import pytest

from leti.generator.cost import OPERATORS, weight_shapes
from leti.generator.lowering import lower
from leti.generator.precision import PRECISIONS, quantized

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra `agent` is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # of tensorflow's own imports and converter

from leti.generator.export.tflite import export_tflite
from leti.generator.importers import import_model

PART = slice(None, None, 3)
"""Of the networks of the spaces, those that are compared in every precision."""


class Pair:
    """A network in both hands: graph and weights, the converter and its float32 file, and images."""

    def __init__(self, graph, weights, converting, file):
        self.graph, self.weights, self.converting, self.file = graph, weights, converting, file
        rng = np.random.default_rng(5)
        self.images = [rng.standard_normal(converting.shape, dtype=np.float32) for _ in range(2)]
        self.float32 = run(load(file), self.images[0])

    def files(self, precision) -> tuple[bytes, bytes]:
        """Return the generator's file and the converter's."""
        changed = quantized(self.graph, precision)
        weights = changed.weights(self.weights)
        ours = export_tflite(changed.graph, weights=weights, representative=[(image,) for image in self.images])
        return ours, self.file if precision == "float32" else self.converting.file(precision, self.images)

    def error(self, made: np.ndarray) -> float:
        """Return the largest difference from float32, as a share of the largest value."""
        return float(np.abs(made - self.float32).max() / np.abs(self.float32).max())


@pytest.fixture(scope="module")
def references(converter):
    """Return (spec, zero, the network in TensorFlow), of both spaces."""
    return [
        (spec, zero, converter.Reference(spec, zero, seed=number // PART.step))
        for number, (spec, zero) in enumerate(converter.networks())
    ]


@pytest.fixture(scope="module")
def pairs(references):
    """Return (spec, zero, the generator's file, the converter's file), of the same weights."""
    found = []
    for spec, zero, reference in references:
        graph = lower(spec, zero)
        weights = weights_of(graph, reference)
        found.append((spec, zero, export_tflite(graph, weights=weights), reference.file))
    return found


def weights_of(graph, reference):
    layers = iter(reference.weights)
    weights = [next(layers) if weight_shapes(op) else () for op in graph.ops]
    assert next(layers, None) is None
    return weights


@pytest.fixture(scope="module")
def networks(references) -> dict[str, Pair]:
    """Return networks of both spaces, by name."""
    found = {}
    for number, (spec, zero, reference) in enumerate(references[PART]):
        graph = lower(spec, zero)
        weights = weights_of(graph, reference)
        found[f"{spec.space} {zero} {number}"] = Pair(graph, weights, reference.converting, reference.file)
    return found


@pytest.fixture(scope="module")
def blocks(converter, converter_blocks, tmp_path_factory) -> dict[str, Pair]:
    """Return networks like those that people have, imported from the converter's own float32 files."""
    found = {}
    for name, build in converter_blocks.BLOCKS.items():
        converting = converter.Converting((1, 32, 32, 3), build)
        path = tmp_path_factory.mktemp("blocks") / f"{name}.tflite"
        file = converting.file("float32")
        path.write_bytes(file)
        imported = import_model(path, weights=True)
        found[name] = Pair(imported.graph, imported.weights, converting, file)
    return found


def load(file: bytes):
    model = interpreters.Interpreter(model_content=file, num_threads=1)
    model.allocate_tensors()
    return model


def run(model, image: np.ndarray) -> np.ndarray:
    model.set_tensor(model.get_input_details()[0]["index"], image)
    model.invoke()
    return model.get_tensor(model.get_output_details()[0]["index"])


def test_the_networks_cover_both_spaces_and_every_operator(pairs):
    assert len(pairs) >= 30
    assert {spec.space for spec, *_ in pairs} == {"nasbench101", "nasbench201"}
    kinds = {op.kind for spec, zero, *_ in pairs for op in lower(spec, zero).ops}
    assert kinds < set(OPERATORS)
    assert len(kinds) == 12
    names = {layer.name for spec, *_ in pairs for layer in spec.layers}
    assert {"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"} < names
    assert {"conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"} < names


def test_both_files_list_the_same_operators(pairs, converter):
    for spec, zero, ours, theirs in pairs:
        assert converter.operators(ours) == converter.operators(theirs), (spec, zero)


def test_litert_makes_the_same_of_both_files(pairs):
    """What the interpreter plans, the delegate's partitions included."""
    for spec, zero, ours, theirs in pairs:
        plans = [Counter(op["op_name"] for op in load(file)._get_ops_details()) for file in (ours, theirs)]
        assert plans[0] == plans[1], (spec, zero)
        assert plans[0]["DELEGATE"] >= 1


def test_both_files_compute_the_same(pairs):
    for seed, (spec, zero, ours, theirs) in enumerate(pairs):
        shape = (spec.config.batch, *spec.config.input_shape)
        image = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        a, b = run(load(ours), image), run(load(theirs), image)
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        assert np.ptp(b) > 0.01 * np.abs(b).max() > 0
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max(), (spec, zero)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["networks", "blocks"])
def test_both_files_are_the_same_in_every_precision(kind, precision, request, converter):
    pairs = request.getfixturevalue(kind)
    assert len(pairs) >= (16 if kind == "networks" else 9)
    for name, pair in pairs.items():
        ours, theirs = pair.files(precision)
        assert converter.operators(ours) == converter.operators(theirs), name
        plans = [Counter(op["op_name"] for op in load(file)._get_ops_details()) for file in (ours, theirs)]
        if precision == "full_integer" and any(op.kind == "zero" for op in pair.graph.ops):
            for plan in plans:
                del plan[
                    "DELEGATE"
                ]  # zeros have vanishing scales in some of the converter's files: XNNPACK refuses those
        assert plans[0] == plans[1], name
        made, expected = (run(load(file), pair.images[0]) for file in (ours, theirs))
        difference = float(np.abs(made - expected).max() / np.abs(expected).max())
        assert np.isfinite(made).all()
        if precision != "full_integer":
            assert difference <= {"float32": 1e-5, "float16": 1e-4, "dynamic_range": 5e-3}[precision], name
        else:
            assert pair.error(made) <= max(0.05, 1.5 * pair.error(expected)), name


def test_full_integers_of_equal_ranges_are_equal(blocks):
    """Networks where no operator works in place: every scale, weight and result is the same."""
    for name in ("densenet", "inception", "audio"):
        ours, theirs = blocks[name].files("full_integer")
        made, expected = (run(load(file), blocks[name].images[0]) for file in (ours, theirs))
        assert np.abs(made - expected).max() <= 1e-6 * np.abs(expected).max(), name


def test_both_files_take_the_same_time(pairs):
    """Median over the networks of the ratio, from interleaved passes; `benchmarks/tflite_writer.py` prints them all."""
    for _ in range(4):
        ratio = statistics.median(ratio_of(load(ours), load(theirs)) for _, _, ours, theirs in pairs)
        if abs(ratio - 1) <= 0.05:
            return
    pytest.fail(f"the writer's files take {ratio:.3f} of the time of the converter's")


def ratio_of(ours, theirs, passes: int = 20) -> float:
    """Return the median over passes of the time of one file over that of the other, three invokes a pass."""
    ratios = []
    for turn in range(passes + 3):
        times = {}
        for model in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.thread_time()
            for _ in range(3):
                model.invoke()
            times[model] = time.thread_time() - start
        ratios.append(times[ours] / times[theirs])
    return statistics.median(ratios[3:])
