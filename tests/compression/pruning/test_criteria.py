"""Criteria: worked by hand, or by PyTorch's own gradients; what hangs together is judged together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.pruning.criteria import CRITERIA, Evidence, importance
from leti.compression.pruning.observing import observed
from leti.compression.training.executing import executable
from leti.core.errors import InvalidInput
from leti.generator.compressing.groups import channel_groups


@pytest.fixture
def coupled(mixed):
    """The group of ``conv a`` and ``conv c``, and their filters, 6 of 27 and 6 of 3 weights."""
    group = next(g for g in channel_groups(mixed.graph) if not g.fixed and g.channels == 6)
    filters = [mixed.weights[mixed.names.index(name)][0].reshape(6, -1) for name in ("conv a", "conv c")]
    assert len(group.producers) == 2
    return group, np.concatenate(filters, axis=1).astype(np.float64)


def squares(outputs, targets):
    return ((outputs[0] - torch.from_numpy(targets)) ** 2).sum()


def loss_of(imported, inputs, targets):
    return squares(executable(imported)(torch.from_numpy(inputs)), targets).item()


def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((2, 4, 4, 3), dtype=np.float32), rng.standard_normal((2, 5), dtype=np.float32)


def test_weights_alone(mixed, coupled):
    group, filters = coupled
    by_hand = {
        "l1": [sum(abs(w) for w in row) for row in filters],
        "l2": [sum(w * w for w in row) ** 0.5 for row in filters],
        "geometric_median": [sum(np.linalg.norm(row - other) for other in filters) for row in filters],
        "bn_scale": np.abs(mixed.weights[mixed.names.index("norm")][0]),
    }
    for criterion, expected in by_hand.items():
        np.testing.assert_allclose(importance(mixed, group, criterion), expected, rtol=1e-6, err_msg=criterion)
    first, again, other = (importance(mixed, group, "random", seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_taylor_is_the_change_of_the_loss(mixed, coupled):
    group, _ = coupled
    inputs, targets = data()
    evidence = observed(mixed, inputs, targets, squares)
    with_all = loss_of(mixed, inputs, targets)
    step = 1e-3
    changes = []
    for channel in range(6):  # the filters of a channel a little smaller, all together
        weights = [list(arrays) for arrays in mixed.weights]
        for i in group.producers:
            weights[i][0] = weights[i][0].copy()
            weights[i][0][channel] *= 1 - step
        smaller = replace(mixed, weights=tuple(map(tuple, weights)))
        changes.append(loss_of(smaller, inputs, targets) - with_all)
    found = importance(mixed, group, "taylor", evidence=evidence)
    np.testing.assert_allclose(np.sqrt(found), np.abs(changes) / step, rtol=0.05, atol=0.02 * np.sqrt(found).max())


def test_activations_are_looked_at_where_they_are(mixed, coupled):
    group, _ = coupled
    inputs, targets = data()
    relu = mixed.names.index("relu")
    evidence = observed(mixed, inputs, targets, squares, operators=[*group.producers, relu])
    made = executable(mixed, values=[mixed.graph.first_values()[relu]])(torch.from_numpy(inputs))[1].detach().numpy()
    np.testing.assert_allclose(evidence.activations[relu], made, rtol=1e-6)
    np.testing.assert_allclose(
        importance(mixed, group, "apoz", evidence=evidence), [(made[..., c] != 0).mean() for c in range(6)]
    )
    # A filter's output is linear in its bias, which every position gets.
    by_bias = [evidence.gradients[i][1] for i in group.producers]
    by_activation = [evidence.activation_gradients[i].sum(axis=(0, 1, 2)) for i in group.producers]
    np.testing.assert_allclose(by_activation, by_bias, rtol=1e-3, atol=1e-3)
    expected = sum(
        np.abs((evidence.activations[i] * evidence.activation_gradients[i]).mean(axis=(1, 2))).mean(axis=0)
        for i in group.producers
    )
    found = importance(mixed, group, "activation_taylor", evidence=evidence)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_missing_evidence_is_named(mixed, coupled):
    group, _ = coupled
    other = next(g for g in channel_groups(mixed.graph) if not g.fixed and g.channels == 4)
    for asked, criterion, field in (
        (group, "taylor", "evidence.gradients"),
        (group, "activation_taylor", f"evidence.activations[{group.producers[0]}]"),
        (other, "bn_scale", f"groups[{other.number}]"),
        (other, "apoz", f"groups[{other.number}]"),
        (group, "l3", "criterion"),
    ):
        with pytest.raises(InvalidInput) as raised:
            importance(mixed, asked, criterion)
        assert raised.value.field == field
    with pytest.raises(InvalidInput, match="no weights"):
        importance(replace(mixed, weights=None), group, "l1")


def test_all_criteria_give_one_number_a_channel(mixed, coupled):
    group, _ = coupled
    inputs, targets = data()
    evidence = observed(mixed, inputs, targets, squares, operators=group.members)
    assert isinstance(evidence, Evidence)
    found = {criterion: importance(mixed, group, criterion, evidence=evidence) for criterion in CRITERIA}
    for criterion, values in found.items():
        assert values.shape == (6,), criterion
        assert (values >= 0).all(), criterion
    assert len({tuple(np.round(values, 9)) for values in found.values()}) == len(CRITERIA)
