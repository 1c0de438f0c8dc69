"""Quantisation-aware training recovers what rounding after training loses; sensitivities say where it loses it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")
pytest.importorskip("litert_quantizer", reason="the extra `compression` is not installed")

import torch

from leti.compression.quantizing.affine import affine
from leti.compression.quantizing.backends import QuantizationRecipe, quantize_model
from leti.compression.quantizing.mixed import Sensitivity, sensitivities
from leti.compression.quantizing.running import file_outputs
from leti.compression.quantizing.training_aware import (
    QuantizationAware,
    RoundedActivation,
    rounded,
    rounded_activations,
)
from leti.compression.quantizing.weights import quantized_weights, weighted
from leti.compression.training.executing import executable, outputs, weights_of
from leti.core.errors import InvalidInput


def filters_of(module: torch.nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.ndim > 1]


def test_gradients_pass_straight_through():
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    made = rounded(values, 4)
    (made * torch.arange(12.0).reshape(4, 3)).sum().backward()
    assert not torch.equal(made, values)
    torch.testing.assert_close(values.grad, torch.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize(("bits", "per_channel"), [(8, True), (4, True), (4, False)])
def test_what_is_trained_is_what_is_stored(classifier, digits, bits, per_channel):
    module = executable(classifier)
    axes = {} if per_channel else dict.fromkeys(filters_of(module))
    aware = QuantizationAware(module, bits, axes=axes)
    stored = quantized_weights(classifier, bits, per_channel=per_channel)
    inputs = digits.test_images[:32]
    with torch.no_grad():
        found = aware(torch.from_numpy(inputs))[0].numpy()
    np.testing.assert_allclose(found, outputs(stored, (inputs,))[0], rtol=1e-4, atol=1e-4)
    frozen = weights_of(aware.freeze(), classifier)
    for number in weighted(classifier.graph):
        np.testing.assert_allclose(frozen.weights[number][0], stored.weights[number][0], rtol=1e-6, atol=1e-7)


def test_training_recovers_half_of_what_four_bits_lose(classifier, digits):
    def accuracy(network) -> float:
        return digits.accuracy(outputs(network, (digits.test_images,))[0])

    base, after = accuracy(classifier), accuracy(quantized_weights(classifier, 4, per_channel=False))
    module = executable(classifier)
    aware = QuantizationAware(module, 4, axes=dict.fromkeys(filters_of(module)))
    digits.fit(aware, 8, 2e-3)
    trained = weights_of(aware.freeze(), classifier)
    assert base - after > 0.03
    assert accuracy(trained) - after >= 0.5 * (base - after)
    again = quantized_weights(trained, 4, per_channel=False)
    for number in weighted(classifier.graph):
        np.testing.assert_allclose(again.weights[number][0], trained.weights[number][0], rtol=1e-5, atol=1e-7)


def test_activations_are_rounded_between_kernels_as_files_do(classifier, digits):
    taps = rounded_activations(classifier, [images for (images,) in digits.samples])
    kernels = {len(classifier.graph.inputs) + kernel[-1] for kernel in classifier.graph.kernels}
    assert set(taps) == {0, *kernels}
    network = executable(classifier, taps=taps)
    inputs = digits.test_images[:64]
    with torch.no_grad():
        found = network(torch.from_numpy(inputs))[0].numpy()
    exact = outputs(classifier, (inputs,))[0]
    model = quantize_model(classifier, QuantizationRecipe("static"), backend="leti", samples=digits.samples)
    stored = file_outputs(model, (inputs,))[0]
    assert not np.array_equal(found, exact)
    assert np.abs(found - stored).max() < 0.05 * np.ptp(exact)
    coarse = executable(classifier, taps=rounded_activations(classifier, [inputs], bits=3))

    def loss() -> float:
        with torch.no_grad():
            made = coarse(torch.from_numpy(digits.test_images))[0]
        return float(torch.nn.functional.cross_entropy(made, torch.from_numpy(digits.test_labels)))

    before = loss()
    digits.fit(coarse, 3, 2e-3)
    assert loss() < 0.9 * before
    with pytest.raises(InvalidInput, match="missing"):
        rounded_activations(classifier, [])


def test_gradients_pass_where_a_range_holds_values():
    rounding = RoundedActivation(affine(0.0, 2.0, bits=2))
    values = torch.tensor([-1.0, 0.3, 1.5, 3.0], requires_grad=True)
    made = rounding(values)
    made.sum().backward()
    torch.testing.assert_close(made.detach(), torch.tensor([0.0, 0.0, 4 / 3, 2.0]))
    torch.testing.assert_close(values.grad, torch.tensor([0.0, 1.0, 1.0, 0.0]))


def test_only_what_is_asked_for_is_rounded():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    aware = QuantizationAware(module, {"0.weight": 4, "1.weight": 8}, kept=("1.weight",))
    assert aware.bits == {"0.weight": 4}
    before = module[1].weight.detach().clone()
    aware.freeze()
    assert torch.equal(module[1].weight, before)
    for field, call in {
        "kept": lambda: QuantizationAware(module, 4, kept=("2.weight",)),
        "bits": lambda: QuantizationAware(module, {"0.bias": 4}),
        "bits[0.weight]": lambda: QuantizationAware(module, {"0.weight": 1}),
    }.items():
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == field


# --- sensitivities ---------------------------------------------------------------------------------------------------


def test_fewer_bits_lose_more_and_nothing_is_scored_twice(classifier, digits, tmp_path):
    images, labels = digits.images[:300], torch.from_numpy(digits.labels[:300])
    asked = []

    def loss(network) -> float:
        asked.append(network)
        return float(torch.nn.functional.cross_entropy(torch.from_numpy(outputs(network, (images,))[0]), labels))

    kept = {"cache": tmp_path, "evaluation": "cross entropy of 300 digits"}
    rows = sensitivities(classifier, loss, bits=(8, 4, 2), **kept)
    numbers = weighted(classifier.graph)
    assert [(row.operator, row.bits) for row in rows] == [(n, b) for n in numbers for b in (8, 4, 2)]
    assert len(asked) == 1 + 3 * len(numbers)
    by = {(row.operator, row.bits): row for row in rows}
    for number in numbers:
        errors = [by[number, bits].weight_error for bits in (8, 4, 2)]
        assert errors == sorted(errors)
        assert by[number, 2].rise > by[number, 8].rise
    assert sensitivities(classifier, loss, bits=(8, 4, 2), **kept) == rows
    one = sensitivities(classifier, loss, bits=(4,), operators=(2,), **kept)
    assert len(asked) == 1 + 3 * len(numbers)
    assert one == (by[2, 4],)
    assert isinstance(one[0], Sensitivity)
