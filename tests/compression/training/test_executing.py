"""Networks with weights as modules of PyTorch: they compute what is exported, train, and come back as they were."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
import operator_cases as cases
import pytest

from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.core.spec import NetworkConfig
from leti.generator.builder import GraphBuilder
from leti.generator.export.torch import export_torch
from leti.generator.importers import Imported
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.generator.weights import random_weights

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.training.executing import executable, outputs, weights_of

SMALL = NetworkConfig(input_shape=(16, 16, 3), stem_channels=8, stacks=2, modules_per_stack=1)
SPACES_TRIED = (
    ("nasbench101", SMALL),
    ("nasbench201", SMALL),
    ("chains", NetworkConfig(input_shape=(16, 16, 3))),
    ("darts", SMALL),
    ("random", NetworkConfig(input_shape=(32, 32, 3))),
    ("mobilenetv3", NetworkConfig(input_shape=(64, 64, 3), classes=10)),
)


def network(graph: Graph, seed: int = 0) -> Imported:
    return Imported(graph, ("",) * len(graph.ops), random_weights(graph, seed))


def images(imported: Imported, batch: int = 2) -> np.ndarray:
    (given,) = imported.graph.inputs
    return np.random.default_rng(0).standard_normal((batch, *given.shape[1:]), dtype=np.float32)


def exported(imported: Imported, batch: np.ndarray) -> np.ndarray:
    """Return what PyTorch's own reading of the exported file makes of images one after the other, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        program = torch.export.load(io.BytesIO(export_torch(imported.graph, weights=imported.weights)))
    kept = [program.state_dict[spec.target].double() for spec in program.graph_signature.input_specs if spec.target]
    turned = torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch, -1, 1))).double()
    with torch.inference_mode():
        return np.concatenate([program.graph_module(*kept, image[None])[0].numpy() for image in turned])


def chain(channels: int = 4) -> Imported:
    builder = GraphBuilder(TensorType((1, 8, 8, 3)))
    value = builder.relu(builder.conv(0, channels, 3))
    value = builder.relu(builder.conv(value, 2 * channels, 3, 2, groups=2))
    value = builder.relu(builder.depthwise_conv(value, 3))
    return network(builder.graph(builder.fully_connected(builder.global_mean(value), 5)))


@pytest.mark.parametrize(("name", "config"), SPACES_TRIED, ids=[name for name, _ in SPACES_TRIED])
def test_a_network_of_a_space_computes_what_its_exported_file_does_and_comes_back_as_it_was(name, config):
    (spec,) = SPACES[name].sample(1, seed=1, config=config)
    imported = network(lower(spec))
    batch = images(imported)
    trained = executable(imported)
    again = weights_of(trained, imported)
    with torch.inference_mode():
        (made,) = trained.double()(torch.from_numpy(batch).double())
    expected = exported(imported, batch)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    for arrays, known in zip(again.weights, imported.weights, strict=True):
        assert all(np.array_equal(array, other) for array, other in zip(arrays, known, strict=True))


KINDS = ("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "transpose_conv2d", "fully_connected", "prelu", "embedding",
         "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")  # fmt: skip


@pytest.mark.parametrize("case", [case for case in cases.SAID if case.kind in KINDS], ids=lambda case: case.name)
def test_every_trained_weight_moves_in_the_place_that_it_has(case):
    imported = case.imported()
    trained = executable(imported)
    assert trained.trained or "bare" in case.name
    rng = np.random.default_rng(3)
    changed = [list(arrays) for arrays in imported.weights]
    for place in trained.trained:  # by the graph's own layout …
        delta = rng.standard_normal(place.shape, dtype=np.float32)
        changed[place.number][place.position] = changed[place.number][place.position] + delta
        with torch.no_grad():
            trained.parameter(place).view(-1).add_(torch.from_numpy(delta.reshape(-1)[place.order]))
        assert np.array_equal(
            trained.weights(place.number)[place.position].detach().numpy(), changed[place.number][place.position]
        )
    again = weights_of(trained, imported)
    for arrays, known in zip(again.weights, changed, strict=True):
        assert all(np.array_equal(array, other) for array, other in zip(arrays, known, strict=True))
    inputs = [torch.from_numpy(array) for array in case.inputs]
    with torch.inference_mode():  # … and as the exporter writes what came back
        for made, known in zip(trained(*inputs), outputs(again, case.inputs), strict=True):
            np.testing.assert_allclose(made.numpy(), known, rtol=1e-6, atol=1e-6)


def test_values_are_what_the_graph_says_and_taps_change_what_reads_them():
    imported = chain()
    batch = images(imported, 3)
    first_relu = len(imported.graph.inputs) + 1
    logits, features = outputs(imported, [batch], [first_relu])
    assert features.shape == (3, 8, 8, 4)
    assert features.min() == 0 < features.max()

    class Half(torch.nn.Module):
        def forward(self, value):
            return value / 2

    tapped, halved = executable(imported, values=[first_relu], taps={first_relu: Half()})(torch.from_numpy(batch))
    np.testing.assert_allclose(halved.detach().numpy(), features / 2)
    assert np.abs(tapped.detach().numpy() - logits).max() > 1e-3
    with pytest.raises(InvalidInput, match="no value"):
        executable(imported, values=[99])
    with pytest.raises(InvalidInput, match="no weights"):
        executable(replace(imported, weights=None))


def test_gradients_reach_all_weights_and_one_may_be_given_by_a_function_of_the_graphs_layout():
    imported = chain()
    trained = executable(imported)
    (logits,) = trained(torch.from_numpy(images(imported, 4)))
    filters = trained.weights(2)[0]
    assert filters.shape == imported.weights[2][0].shape
    (logits.square().mean() + filters.square().sum(dim=(1, 2, 3)).sqrt().sum()).backward()
    assert all(trained.parameter(place).grad.abs().sum() > 0 for place in trained.trained)
    names = dict(trained.named_parameters())
    assert {f"program.{place.name}" for place in trained.trained} == set(names)
    assert all(
        place.name.startswith(f"{imported.graph.ops[place.number].kind}_{place.number}.") for place in trained.trained
    )


def test_a_flattening_takes_any_batch_and_a_reshape_of_the_batch_itself_is_refused():
    builder = GraphBuilder(TensorType((1, 4, 4, 3)))
    value = builder.place("reshape", (builder.conv(0, 2, 3),), (1, 32))
    imported = network(builder.graph(builder.fully_connected(value, 5)))
    batch = images(imported, 3)
    np.testing.assert_allclose(outputs(imported, [batch])[0], exported(imported, batch), rtol=1e-5, atol=1e-5)
    builder = GraphBuilder(TensorType((1, 4, 4, 3)))
    mixed = network(builder.graph(builder.place("reshape", (0,), (16, 3))))
    assert outputs(mixed, [images(mixed, 1)])[0].shape == (16, 3)
    with pytest.raises(InvalidInput, match="batch"):
        outputs(mixed, [images(mixed, 3)])
