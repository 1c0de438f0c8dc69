"""How important the channels of a coupled group are: one row of :data:`CRITERIA` a criterion.

Channels that are added to, or multiplied by, each other go together, so that a channel's filters are those of all the
group's producers, side by side. What needs data reads it from :class:`Evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final

from leti.compression.pruning.removing import channel_axis
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Op
from leti.generator.compressing.groups import ChannelGroup
from leti.generator.importers import Imported
from leti.generator.weights import Array, Weights, weight_names

with needs("compression"):
    import numpy as np

RECTIFIERS: Final = frozenset({"relu", "relu6", "relu_n1"})
"""Activations that make zeros."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was seen of a network on data, as far as somebody looked.

    ``gradients`` are the loss's with respect to each of the network's weights, of the weights' shapes. ``activations``
    holds the first output of operators, ``(samples, ..., channels)`` by their number, and ``activation_gradients`` the
    loss's gradients with respect to those.
    """

    gradients: Weights | None = None
    activations: Mapping[int, Array] = field(default_factory=dict)
    activation_gradients: Mapping[int, Array] = field(default_factory=dict)


NOTHING_SEEN: Final = Evidence()


def importance(
    imported: Imported, group: ChannelGroup, criterion: str = "l1", *, evidence: Evidence = NOTHING_SEEN, seed: int = 0
) -> Array:
    """Return the importance of each of a group's channels by a criterion of :data:`CRITERIA`, ``(channels,)``, >= 0.

    ``seed`` is for the criterion ``random`` alone. Raises :class:`InvalidInput` where there is no such criterion, or
    where it needs weights or evidence that are not there.
    """
    if criterion not in CRITERIA:
        raise InvalidInput(f"there is none of the name {criterion!r}", field="criterion", remedy=", ".join(CRITERIA))
    return CRITERIA[criterion](_Asked(imported, group, evidence, seed))


def filters(imported: Imported, group: ChannelGroup, weights: Weights | None = None) -> Array:
    """Return the filters of a group's channels, those of all producers side by side: ``(channels, size)``, float64.

    ``weights`` take the place of the network's own, such as gradients. Raises :class:`InvalidInput` where the network
    came without weights, or where the producers have none.
    """
    read = imported.loaded_weights() if weights is None else weights
    rows = [by_channel(imported.graph.ops[i], read[i][0]) for i in group.producers if len(read[i])]
    if not rows:
        raise InvalidInput("what makes it has no weights", field=f"groups[{group.number}]")
    return np.concatenate(rows, axis=1)


def by_channel(op: Op, weight: Array) -> Array:
    """Return an operator's weight with a row for each output channel, ``(channels, size)``, float64."""
    axis = channel_axis(op)
    return np.moveaxis(np.asarray(weight, np.float64), axis, 0).reshape(weight.shape[axis], -1)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A group whose channels are asked for."""

    imported: Imported
    group: ChannelGroup
    evidence: Evidence
    seed: int

    def filters(self) -> Array:
        return filters(self.imported, self.group)

    def gradients(self) -> Array:
        if self.evidence.gradients is None:
            raise InvalidInput("are needed by this criterion", field="evidence.gradients")
        return filters(self.imported, self.group, self.evidence.gradients)

    def seen(self, operator: int, *, gradient: bool = False) -> Array:
        """Return the activations of an operator, or their gradients: ``(samples, positions, channels)``, float64."""
        name = "activation_gradients" if gradient else "activations"
        found = getattr(self.evidence, name).get(operator)
        if found is None:
            raise InvalidInput("are needed by this criterion", field=f"evidence.{name}[{operator}]")
        return np.asarray(found, np.float64).reshape(len(found), -1, self.group.channels)


def _l1(asked: _Asked) -> Array:
    return np.asarray(np.abs(asked.filters()).sum(axis=1))


def _l2(asked: _Asked) -> Array:
    return np.asarray(np.linalg.norm(asked.filters(), axis=1))


def _batch_norm_scale(asked: _Asked) -> Array:
    graph, weights = asked.imported.graph, asked.imported.loaded_weights()
    norms = [i for i in asked.group.members if "scale" in weight_names(graph.ops[i])]
    if not norms:
        raise InvalidInput(
            "has no norm with a scale: batch norms go into the convolutions before them where a model is imported",
            field=f"groups[{asked.group.number}]",
            remedy="import the model with fold=False and weights=True, or take another criterion",
        )
    scales = [weights[i][weight_names(graph.ops[i]).index("scale")] for i in norms]
    return np.asarray(np.abs(np.asarray(scales, np.float64)).sum(axis=0))


def _taylor(asked: _Asked) -> Array:
    return np.asarray((asked.filters() * asked.gradients()).sum(axis=1) ** 2)


def _activation_taylor(asked: _Asked) -> Array:
    changes = [asked.seen(i) * asked.seen(i, gradient=True) for i in asked.group.producers]
    return np.asarray(np.sum([np.abs(change.mean(axis=1)).mean(axis=0) for change in changes], axis=0))


def _nonzero_activations(asked: _Asked) -> Array:
    rectified = [i for i in asked.group.members if asked.imported.graph.ops[i].kind in RECTIFIERS]
    if not rectified:
        raise InvalidInput(
            f"has none of {', '.join(sorted(RECTIFIERS))}, whose zeros are counted",
            field=f"groups[{asked.group.number}]",
            remedy="take another criterion",
        )
    return np.asarray(np.mean([(asked.seen(i) != 0).mean(axis=(0, 1)) for i in rectified], axis=0))


def _distance_to_others(asked: _Asked) -> Array:
    rows = asked.filters()
    squares = (rows**2).sum(axis=1)
    squared = squares[:, None] + squares[None, :] - 2 * rows @ rows.T
    np.fill_diagonal(squared, 0)
    return np.asarray(np.sqrt(np.maximum(squared, 0)).sum(axis=1))


def _random(asked: _Asked) -> Array:
    return np.random.default_rng((asked.seed, asked.group.number)).random(asked.group.channels)


CRITERIA: Final[Mapping[str, Callable[[_Asked], Array]]] = MappingProxyType(
    {
        # "Pruning Filters for Efficient ConvNets", Li et al., 2017
        "l1": _l1,
        "l2": _l2,
        # "Learning Efficient Convolutional Networks through Network Slimming", Liu et al., 2017
        "bn_scale": _batch_norm_scale,
        # "Importance Estimation for Neural Network Pruning", Molchanov et al., 2019: (Σ gradient · weight)²
        "taylor": _taylor,
        # "Pruning Convolutional Neural Networks for Resource Efficient Inference", Molchanov et al., 2017:
        # |mean of gradient · activation over positions|, over samples
        "activation_taylor": _activation_taylor,
        # "Network Trimming", Hu et al., 2016: 1 - the average percentage of zeros
        "apoz": _nonzero_activations,
        # "Filter Pruning via Geometric Median", He et al., 2019: what is near all others is what they can stand in for
        "geometric_median": _distance_to_others,
        "random": _random,  # the control
    }
)
"""Every criterion by its name; the least important channels go first."""
