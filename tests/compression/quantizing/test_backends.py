"""Post-training quantisation: files that run, the graphs that they are priced as, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")
pytest.importorskip("litert_quantizer", reason="the extra `compression` is not installed")

from leti.compression.quantizing.backends import QuantizationRecipe, quantize_model
from leti.compression.quantizing.running import file_outputs
from leti.compression.training.executing import outputs
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported, import_model
from leti.generator.precision import quantize
from leti.generator.weights import random_weights

RECIPES = {
    "static": QuantizationRecipe("static"),
    "per tensor": QuantizationRecipe("static", per_channel=False),
    "symmetric": QuantizationRecipe("static", symmetric_activations=True),
    "mixed": QuantizationRecipe("static", kept=(2,)),
    "dynamic": QuantizationRecipe("dynamic"),
    "dynamic mixed": QuantizationRecipe("dynamic", kept=(6,)),
    "float16": QuantizationRecipe("float16"),
    "weights": QuantizationRecipe("weight_only"),
    "weights in 4 bits": QuantizationRecipe("weight_only", 4),
}
REFUSED = {
    "leti": {
        "per tensor": "per_channel",
        "symmetric": "symmetric_activations",
        "weights": "method",
        "weights in 4 bits": "method",
    },
    "onnxruntime": {"weights in 4 bits": "weight_bits"},
    "litert": {},
}
SIMULATED = {"float16", "weights", "weights in 4 bits"}


@pytest.mark.parametrize("backend", REFUSED)
@pytest.mark.parametrize("name", RECIPES)
def test_files_read_digits_as_float32_does(classifier: Imported, digits, backend, name):
    recipe = RECIPES[name]
    if field := REFUSED[backend].get(name):
        with pytest.raises(InvalidInput) as caught:
            quantize_model(classifier, recipe, backend=backend, samples=digits.samples)
        assert caught.value.field == f"recipe.{field}"
        return
    model = quantize_model(classifier, recipe, backend=backend, samples=digits.samples)
    expected = digits.accuracy(outputs(classifier, (digits.test_images,))[0])
    assert expected > 0.95
    assert digits.accuracy(file_outputs(model, (digits.test_images,))[0]) >= expected - 0.01
    assert len(model.content) < model.float_bytes
    assert model.is_simulated == ("not faster" in model.record) == (name in SIMULATED)
    assert model.samples == (64 if recipe.method == "static" else 0)
    if model.format == "tflite" and recipe.method != "weight_only":
        assert import_model(model.content).graph.fingerprint() == model.graph.fingerprint()


def test_what_is_kept_is_priced_so_and_loses_less(classifier: Imported, digits):
    graph = classifier.graph
    every = quantize_model(classifier, RECIPES["static"], backend="leti", samples=digits.samples)
    mixed = quantize_model(
        classifier, QuantizationRecipe("static", kept=(0, 6)), backend="leti", samples=digits.samples
    )
    assert every.graph == quantize(graph, "full_integer")
    assert mixed.graph == quantize(graph, "full_integer", kept=(0, 1, 6, 7))  # activations run in the kernel before
    weights_alone = quantize_model(classifier, RECIPES["weights"])
    assert weights_alone.graph == graph
    assert "operators 0, 6 in float32" in mixed.record


def test_images_that_are_returned_lie_as_in_the_graph():
    builder = GraphBuilder(TensorType((2, 6, 5, 3)))
    graph = builder.graph(builder.relu(builder.conv(0, 8, 3)))
    network = Imported(graph, ("conv", "relu"), random_weights(graph, 0))
    drawn = np.random.default_rng(0).standard_normal((4, 6, 5, 3), dtype=np.float32)
    expected = outputs(network, (drawn[:2],))[0]
    for backend in REFUSED:
        model = quantize_model(network, RECIPES["static"], backend=backend, samples=[(drawn[:2],), (drawn[2:],)])
        found = file_outputs(model, (drawn,))[0]
        assert found.shape == (4, 6, 5, 8)
        np.testing.assert_allclose(found[:2], expected, atol=0.1)


HALF = RECIPES["float16"]
AN_ACTIVATION = QuantizationRecipe("float16", kept=(1,))
NOWHERE = QuantizationRecipe("float16", kept=(99,))


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("method", lambda network: QuantizationRecipe("ternary")),
        ("weight_bits", lambda network: QuantizationRecipe("static", 4)),
        ("backend", lambda network: quantize_model(network, HALF, backend="torch")),
        ("samples", lambda network: quantize_model(network, RECIPES["static"])),
        ("samples[0]", lambda network: quantize_model(network, RECIPES["static"], samples=[(np.ones((1, 9, 9, 1)),)])),
        ("recipe.kept", lambda network: quantize_model(network, NOWHERE, backend="leti")),
        ("recipe.kept", lambda network: quantize_model(network, NOWHERE, backend="litert")),
        ("recipe.kept[1]", lambda network: quantize_model(network, AN_ACTIVATION, backend="onnxruntime")),
        ("weights", lambda network: quantize_model(Imported(network.graph, network.names), HALF)),
        ("inputs", lambda network: file_outputs(quantize_model(network, HALF), ())),
    ],
)
def test_bad_requests_name_their_field(classifier: Imported, field, call):
    with pytest.raises(InvalidInput) as caught:
        call(classifier)
    assert caught.value.field == field
