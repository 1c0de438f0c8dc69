"""Penalties that make weights, or all that makes a channel, zero while a network trains: L1 and group lasso.

"Model Selection and Estimation in Regression with Grouped Variables", Yuan and Lin, 2006; "Learning Structured Sparsity
in Deep Neural Networks", Wen et al., 2016. A penalty's gradient alone comes near zero and swings around it; the
proximal step, :func:`shrink_channels`, gets there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leti.compression.pruning.criteria import by_channel
from leti.compression.pruning.removing import channel_axis
from leti.compression.pruning.summaries import FILTERS
from leti.compression.training.executing import Network
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.compressing.groups import ChannelGroup, channel_groups
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch


def l1_penalty(network: Network, graph: Graph) -> torch.Tensor:
    """Return the sum of the magnitudes of all filters' weights, a scalar to be scaled and added to the loss."""
    found = [network.weights(i)[0].abs().sum() for i, op in enumerate(graph.ops) if op.kind in FILTERS]
    return torch.stack(found).sum() if found else torch.zeros(())


def group_lasso(network: Network, graph: Graph, groups: Sequence[ChannelGroup] | None = None) -> torch.Tensor:
    """Return the sum of the channels' norms, those of a group times the root of a channel's number of weights.

    A channel's weights are all that make it or work on it alone, in all members of its coupled group: filters, biases,
    scales and offsets. ``groups`` are all that may change unless they are named. A scalar, to be scaled and added to
    the loss.
    """
    found = []
    for group in _chosen(graph, groups):
        rows = torch.cat([part for _, part in _parts(network, graph, group)], dim=1)
        found.append(rows.shape[1] ** 0.5 * torch.linalg.vector_norm(rows, dim=1).sum())
    return torch.stack(found).sum() if found else torch.zeros(())


def shrink_channels(
    network: Network, graph: Graph, strength: float, groups: Sequence[ChannelGroup] | None = None
) -> None:
    """Take the proximal step of ``strength`` times :func:`group_lasso`: channels become smaller, small ones zero.

    Done after each step of plain gradient descent, with the penalty's factor times the learning rate, it takes the
    place of the penalty ("Proximal Algorithms", Parikh and Boyd, 2014, section 6.5.4).
    """
    if not strength >= 0:
        raise InvalidInput(f"must be at least 0, not {strength}", field="strength")
    with torch.no_grad():
        for group in _chosen(graph, groups):
            parts = dict(_parts(network, graph, group))
            rows = torch.cat(list(parts.values()), dim=1)
            norms = torch.linalg.vector_norm(rows, dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
            factors = (1 - strength * rows.shape[1] ** 0.5 / norms).clamp_min(0)
            for trained in network.trained:
                if (trained.number, trained.position) in parts:
                    axis = channel_axis(graph.ops[trained.number]) % len(trained.shape)
                    shape = [-1 if i == axis else 1 for i in range(len(trained.shape))]
                    spread = factors.reshape(shape).expand(trained.shape).reshape(-1)
                    parameter = network.parameter(trained)
                    parameter *= spread[torch.from_numpy(trained.order)].reshape(parameter.shape)


def channels_left(imported: Imported, tolerance: float = 0.0) -> dict[int, Array]:
    """Return which channels of each group have a weight above ``tolerance``, as ``removed`` takes it.

    Groups that keep all are left out; one that has none left keeps its first channel. What is removed so computed
    nothing, where ``tolerance`` is 0 and no activation makes something of zero.
    """
    weights = imported.loaded_weights()
    left: dict[int, Array] = {}
    for group in _chosen(imported.graph, None):
        largest = np.zeros(group.channels)
        for i in group.members:
            op = imported.graph.ops[i]
            for array in weights[i] if op.kind != "batch_norm" else weights[i][:-2]:  # but its mean and variance
                if array.ndim and array.shape[channel_axis(op)] == group.channels:
                    largest = np.maximum(largest, np.abs(by_channel(op, array)).max(axis=1))
        kept = np.flatnonzero(largest > tolerance)
        if len(kept) < group.channels:
            left[group.number] = kept if len(kept) else np.zeros(1, np.intp)
    return left


def _chosen(graph: Graph, groups: Sequence[ChannelGroup] | None) -> Sequence[ChannelGroup]:
    found = channel_groups(graph) if groups is None else groups
    return [group for group in found if not group.fixed]


def _parts(network: Network, graph: Graph, group: ChannelGroup) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    """Yield the trained weights of a group, ``(channels, size)``, under the operator's number and their position."""
    for i in group.members:
        axis = channel_axis(graph.ops[i])
        for position, tensor in network.weights(i).items():
            if tensor.ndim and tensor.shape[axis] == group.channels:
                yield (i, position), tensor.movedim(axis, 0).reshape(group.channels, -1)
