"""Every kind of predictor on networks of every precision: their graphs hold operators and data types of their own."""

import random

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
registry = pytest.importorskip("leti.predictors.registry")
precision_module = pytest.importorskip("leti.generator.precision", reason="needs the extra `export`")

from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors.batch import Batch
from leti.predictors.features import FeatureMap

PRECISIONS = precision_module.PRECISIONS
SPACES = ("chains", "nasbench201")
SMALL = NetworkConfig(input_shape=(16, 16, 3), stacks=1, modules_per_stack=1)

PLAIN = tuple(kind for kind in registry.kinds() if kind in ("flops", "lookup_table", "xgboost"))
"""Kinds of three manners; what is said of all of them below, is said by code that they share."""


@pytest.fixture(scope="module")
def networks():
    specs = [spec for name in SPACES for spec in get_space(name).sample(30, 5, SMALL)]
    random.Random(1).shuffle(specs)
    return {
        precision: [precision_module.quantize(lower(spec), precision) for spec in specs] for precision in PRECISIONS
    }


def latency_ms(graph):
    """Milliseconds as of a device that is faster on int8, and slowed down by what converts."""
    return 0.2 + sum(
        op.traffic_bytes / 4e6 + op.macs / (4e7 if op.outputs[0].dtype == "int8" else 2e7) for op in graph.ops
    )


def test_networks_of_int8_hold_what_those_of_float32_do_not(networks):
    kinds = {precision: {op.kind for graph in graphs for op in graph.ops} for precision, graphs in networks.items()}
    assert {"quantize", "dequantize"} <= kinds["full_integer"]
    assert not {"quantize", "dequantize"} & kinds["float32"]


@pytest.mark.parametrize(
    ("kind", "precision"),
    [(kind, "full_integer") for kind in registry.kinds()]  # the one that is most unlike float32
    + [(kind, precision) for kind in PLAIN for precision in PRECISIONS if precision != "full_integer"],
)
def test_a_predictor_learns_networks_of_a_precision(kind, precision, networks, tmp_path):
    graphs = networks[precision]
    train, asked = graphs[:40], graphs[40:]
    predictor = registry.create(kind).fit(train, [latency_ms(graph) for graph in train], seed=3)
    predictions = predictor.predict(asked)
    truth = np.array([latency_ms(graph) for graph in asked])
    error = np.abs(np.array(predictions.latency_ms) / truth - 1)
    assert np.median(error) < 0.3
    assert np.all(np.array(predictions.low_ms) > 0)
    assert not any(said in ("quantize", "dequantize") for item in predictions for said in item.unknown)
    predictor.save(tmp_path / "saved")
    again = type(predictor).load(tmp_path / "saved").predict(asked)
    np.testing.assert_allclose(again.latency_ms, predictions.latency_ms)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_was_not_in_training_is_remarked_upon(kind, networks):
    train = networks["full_integer"][:40]
    predictor = registry.create(kind).fit(train, [latency_ms(graph) for graph in train], seed=3)
    for precision in ("float32", "float16", "dynamic_range"):
        other = predictor.predict(networks[precision][:20])
        assert all(any(said.startswith(("dtype", "weight_dtype", "conv2d")) for said in item.unknown) for item in other)
    assert [item.unknown for item in predictor.predict(train[:20])] == [()] * 20
    strange = mixed()
    for graph, item in zip(strange, predictor.predict(strange), strict=True):
        left = {op.kind for op in graph.ops if op.outputs[0].dtype == "float32"} - {"dequantize"}
        assert {said for said in item.unknown if said in left} == left
        assert item.latency_ms > 0


def mixed():
    """Networks of int8 in which some operators stay float32, in the midst."""
    specs = get_space("random").sample(40, 5, get_space("random").default_config)
    graphs = [precision_module.quantize(lower(spec), "full_integer") for spec in specs]
    found = [graph for graph in graphs if any(op.outputs[0].dtype == "float32" for op in graph.ops[:-1])]
    assert found
    return found


def test_kernels_are_told_apart_by_precision(networks):
    names = {}
    for precision, graphs in networks.items():
        batch = Batch.of(graphs)
        names[precision] = {kernel.name for kernel in batch.kernels if "conv2d" in kernel.kind}
        features = FeatureMap.learn(batch)
        rows = features.encode(batch)
        assert rows.shape == (len(graphs), len(features.names))
        assert np.all(np.isfinite(rows))
    assert not names["float32"] & names["full_integer"]
    assert not names["float32"] & names["float16"]
