"""Files of TensorFlow's converter become graphs that cost what TensorFlow says, and compute the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="tensorflow, whose converter writes the files, is not installed")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

import converter_models as models

from leti.generator.export.tflite import export_tflite
from leti.generator.importers import import_model
from leti.generator.precision import PRECISIONS


def run(data: bytes) -> list[np.ndarray]:
    """Return what a file makes of an input drawn by a fixed seed."""
    model = interpreter.Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    for given in model.get_input_details():
        values = np.random.default_rng(0).uniform(0, 4, given["shape"]).astype(given["dtype"])
        model.set_tensor(given["index"], values)
    model.invoke()
    return [model.get_tensor(made["index"]) for made in model.get_output_details()]


@pytest.mark.parametrize("name", sorted(models.OPERATORS))
def test_each_operator_is_known_and_computes_the_same_once_it_is_exported_again(name):
    function, shape, kinds = models.OPERATORS[name]
    data = models.convert(function, shape)
    imported = import_model(data, weights=True)
    assert Counter(op.kind for op in imported.graph.ops) == Counter(kinds.split())
    expected, found = run(data), run(export_tflite(imported.graph, weights=imported.weights))
    assert [array.shape for array in found] == [array.shape for array in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(models.UNKNOWN))
def test_what_is_not_known_is_kept(name):
    function, shape, kind = models.UNKNOWN[name]
    graph = import_model(models.convert(function, shape)).graph
    assert graph.unknown == (f"unknown:{kind}",)
    assert graph.inputs[0].shape == shape


@pytest.fixture(scope="module")
def networks():
    """Return each network of the table, made once."""
    return {name: models.Network(name) for name in models.NETWORKS}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_a_network_of_any_precision_costs_what_keras_counts(networks, name, precision):
    network = networks[name]
    graph = import_model(network.file(precision)).graph
    assert graph.unknown == ()
    assert graph.macs == network.macs()
    assert graph.params == network.folded_params()
    stored = {op.get("weight_dtype", "") or op.outputs[0].dtype for op in graph.ops if op.macs}
    assert {"float32": "float32", "float16": "float16"}.get(precision, "int8") in stored


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_a_network_computes_the_same_once_it_is_exported_again(networks, name, precision):
    data = networks[name].file(precision)
    imported = import_model(data, weights=True)
    (expected,), (found,) = run(data), run(export_tflite(imported.graph, weights=imported.weights))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
