"""What PyTorch's and Keras's own exporters write as ONNX becomes the graph that runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.generator.importers import import_model

onnx = pytest.importorskip("onnx", reason="the extra `import-onnx` is not installed")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch_networks as networks
from evaluator import evaluate
from torch import nn

from leti.generator.importers.onnx import read_onnx
from leti.generator.importers.passes import fold, normalise

NAMES = ("mobilenet", "encoder", "decoder")


@pytest.fixture(scope="module")
def exported() -> Mapping[str, tuple[Any, Any, Any]]:
    """Return each small network, its input, and what PyTorch's exporter writes of it."""
    found = {}
    for name in NAMES:
        make, shape = networks.NETWORKS[name]
        torch.manual_seed(0)
        network, image = networks.prepared(make()), torch.randn(shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(network, (image,), dynamo=True, verbose=False)
        found[name] = network, image, program.model_proto
    return found


def _parameters(network: Any) -> int:
    """Return PyTorch's count; a batch norm in a convolution's weights is the convolution's bias."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    folded = sum(norm.num_features for norm in norms)
    return sum(p.numel() for p in network.parameters()) - folded


@pytest.mark.parametrize("name", NAMES)
def test_networks_keep_parameters_and_multiplications(name: str, exported: Mapping[str, Any]) -> None:
    network, image, model = exported[name]
    graph = import_model(model, fold=False).graph
    assert graph.unknown == ()
    assert graph.params == _parameters(network)
    assert graph.macs == networks.counted_macs(network, image)


@pytest.mark.parametrize("name", NAMES)
def test_networks_compute_what_pytorch_computes(name: str, exported: Mapping[str, Any]) -> None:
    network, image, model = exported[name]
    with torch.no_grad():
        expected = network(image).numpy()
    read = read_onnx(model, {})
    for draft in (read, normalise(read), fold(normalise(read))):
        array = image.numpy().astype(np.float64)
        array = array if draft.types[draft.inputs[0]].shape == array.shape else np.moveaxis(array, 1, -1)
        (made,) = evaluate(draft, [array])
        made = made if made.shape == expected.shape else np.moveaxis(made, -1, 1)
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_a_mobilenet_is_channels_last_without_transpositions(exported: Mapping[str, Any]) -> None:
    _, image, model = exported["mobilenet"]
    graph = import_model(model).graph
    kinds = {op.kind for op in graph.ops}
    assert graph.inputs[0].shape == tuple(np.moveaxis(image.numpy(), 1, -1).shape)
    assert "transpose" not in kinds
    assert {"depthwise_conv2d", "hard_swish", "hard_sigmoid"} <= kinds


_KERAS = """
import sys, warnings
warnings.simplefilter("ignore")
import keras, torch
from keras import layers
image = keras.Input((24, 24, 3))
x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
y = layers.DepthwiseConv2D(3, padding="same")(x)
y = layers.Conv2D(8, 1, activation="hard_swish")(y)
x = layers.MaxPooling2D(2)(layers.Add()([x, y]))
x = layers.Dense(5, activation="softmax")(layers.Flatten()(x))
model = keras.Model(image, x)
model(torch.zeros((1, 24, 24, 3)).to("cpu"))
model.export(sys.argv[1], format="onnx", verbose=False)
from leti.generator.importers import import_model
graph, read = import_model(model).graph, import_model(sys.argv[1]).graph
assert not any(op.kind == "transpose" for op in read.ops), [op.kind for op in read.ops]
assert read == graph, ([op.kind for op in graph.ops], [op.kind for op in read.ops])
assert (read.macs, read.params, read.peak_memory_bytes) == (graph.macs, graph.params, graph.peak_memory_bytes)
"""


def test_a_keras_model_and_what_keras_exports_are_one_graph(tmp_path: Path) -> None:
    """Keras on PyTorch turns each image channels first for each convolution, and back."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    run = subprocess.run(
        [sys.executable, "-c", _KERAS, str(tmp_path / "network.onnx")],
        env={**os.environ, "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
