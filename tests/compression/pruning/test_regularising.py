"""Penalties by hand, and group lasso on a toy: what is of no use becomes zero, and can go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.pruning.regularising import channels_left, group_lasso, l1_penalty, shrink_channels
from leti.compression.pruning.removing import removed
from leti.compression.training.executing import executable, outputs, weights_of
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def channel_weights(imported: Imported, group) -> np.ndarray:
    """Return all that makes the channels of a group, or works on them, without statistics: ``(channels, size)``."""
    found = []
    for i in group.members:
        for array in imported.weights[i][: 2 if imported.graph.ops[i].kind == "batch_norm" else None]:
            axis = 0 if i in group.producers else -1
            found.append(np.moveaxis(array, axis, 0).reshape(group.channels, -1))
    return np.concatenate(found, axis=1).astype(np.float64)


def test_penalties_by_hand(mixed):
    network, graph = executable(mixed), mixed.graph
    filters = [arrays[0] for op, arrays in zip(graph.ops, mixed.weights, strict=True) if op.macs]
    expected = sum(np.abs(weight).astype(np.float64).sum() for weight in filters)
    assert l1_penalty(network, graph).item() == pytest.approx(expected, rel=1e-5)
    group = next(g for g in channel_groups(graph) if not g.fixed and g.channels == 6)
    rows = channel_weights(mixed, group)
    assert rows.shape == (6, 27 + 1 + 2 + 3 + 1 + 9 + 1 + 1)  # conv a, norm, conv c, depthwise, prelu
    expected = rows.shape[1] ** 0.5 * np.linalg.norm(rows, axis=1).sum()
    penalty = group_lasso(network, graph, [group])
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    parameter = next(t for t in network.trained if (t.number, t.position) == (group.producers[0], 1))
    (gradient,) = torch.autograd.grad(group_lasso(network, graph, [group]), network.parameter(parameter))
    biases = mixed.weights[group.producers[0]][1]
    np.testing.assert_allclose(gradient, rows.shape[1] ** 0.5 * biases / np.linalg.norm(rows, axis=1), rtol=1e-4)


def test_the_proximal_step_by_hand(mixed):
    network, graph = executable(mixed), mixed.graph
    group = next(g for g in channel_groups(graph) if not g.fixed and g.channels == 6)
    rows = channel_weights(mixed, group)
    norms = np.linalg.norm(rows, axis=1)
    strength = float(np.sort(norms)[2:4].mean()) / rows.shape[1] ** 0.5  # between the third and the fourth
    shrink_channels(network, graph, strength, [group])
    made = channel_weights(weights_of(network, mixed), group)
    expected = rows * np.maximum(0, 1 - strength * rows.shape[1] ** 0.5 / norms)[:, None]
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6)
    assert (np.linalg.norm(made, axis=1) == 0).sum() == 3
    assert set(channels_left(weights_of(network, mixed))[group.number]) == set(np.argsort(norms)[3:])
    with pytest.raises(InvalidInput):
        shrink_channels(network, graph, -1.0)


@pytest.mark.parametrize("proximal", [False, True], ids=["plain", "group lasso"])
def test_group_lasso_empties_what_is_of_no_use(proximal):
    """One hidden channel of two layers is all that the target needs; the second input says nothing of it."""
    builder = GraphBuilder(TensorType((1, 1, 1, 2)))
    hidden = builder.relu(builder.conv(0, 8, 1))
    graph = builder.graph(builder.conv(builder.relu(builder.conv(hidden, 6, 1)), 1, 1))
    imported = Imported(graph, ("",) * len(graph.ops), random_weights(graph, 1))
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((128, 1, 1, 2), dtype=np.float32)
    targets = torch.from_numpy(np.maximum(inputs[..., :1], 0))
    network = executable(imported)
    descent = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(300):
        descent.zero_grad()
        loss = ((network(torch.from_numpy(inputs))[0] - targets) ** 2).mean()
        loss.backward()
        descent.step()
        if proximal:
            shrink_channels(network, graph, 0.1 * 0.04)
    trained = weights_of(network, imported)
    left = channels_left(trained)
    if not proximal:
        assert left == {}  # without it, nothing becomes zero
        return
    assert loss.item() < 0.02  # of a variance of about a third
    smaller = removed(trained, left)
    first, second = (group.channels for group in channel_groups(smaller.graph) if not group.fixed)
    assert first <= 4  # of 8
    assert second <= 2  # of 6
    np.testing.assert_allclose(outputs(smaller, [inputs])[0], outputs(trained, [inputs])[0], atol=1e-5)
