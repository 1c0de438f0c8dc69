"""Channels are removed: the weights of a network that keeps some channels of its groups.

The graph is that of :mod:`leti.generator.compressing.patching`, so that what is predicted is what is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Op
from leti.core.patches import Patch
from leti.generator.compressing.groups import Channels, kept_positions
from leti.generator.compressing.patching import Patching
from leti.generator.importers import Imported
from leti.generator.weights import Array, check_weights

with needs("compression"):
    import numpy as np

Kept = Mapping[int, Sequence[int] | Array]
"""The channels that groups keep, ascending, by the groups' numbers; a group that is not named keeps all."""

FILTERS_FIRST: Final = frozenset({"conv1d", "conv2d", "conv3d", "transpose_conv2d", "fully_connected"})
"""Operators whose filters lie as (out, ..., in); all other weights have the channels that are made last."""


def removed(imported: Imported, kept: Kept) -> Imported:
    """Return the network with these channels of its groups, and what made and read the others cut from its weights.

    Where the weights of all others, biases included, are zero, and no activation makes something of zero, it computes
    what it computed before. Raises :class:`InvalidInput`, naming ``kept[...]``, for a group that is not there or may
    not change and for channels that are none of its own, and for a network without weights.
    """
    weights = imported.loaded_weights()
    graph = imported.graph
    patching = Patching(graph)
    channels = patching.channels
    chosen = {number: _checked(channels, number, indices) for number, indices in kept.items()}
    widths = {channels.groups[number].members[0]: len(indices) for number, indices in chosen.items()}
    result = patching.patched(Patch(widths=widths), "kept")
    sizes = [group.channels for group in channels.groups]
    positions = [np.asarray(kept_positions(axis, sizes, chosen), np.intp) for axis in channels.axes]
    firsts = graph.first_values()
    cut: list[tuple[Array, ...]] = []
    for base, _ in result.origins:
        op, sources = graph.ops[base], graph.wiring[base]
        read = positions[sources[0]] if sources else np.empty(0, np.intp)
        made = positions[firsts[base]] if op.outputs else read
        cut.append(_cut(op, weights[base], read, made))
    check_weights(result.graph, cut)
    return Imported(result.graph, tuple(imported.names[base] for base, _ in result.origins), tuple(cut))


def channel_axis(op: Op) -> int:
    """Return the axis of an operator's weights along which the channels that it makes lie: 0 or -1."""
    return 0 if op.kind in FILTERS_FIRST else -1


def _checked(channels: Channels, number: int, indices: Sequence[int] | Array) -> list[int]:
    place = f"kept[{number}]"
    if not 0 <= number < len(channels.groups):
        raise InvalidInput("there is no such channel group", field=place, remedy=f"0 to {len(channels.groups) - 1}")
    group = channels.groups[number]
    chosen = [int(index) for index in indices]
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= group.channels:
        raise InvalidInput(
            "must be some of the group's channels, ascending", field=place, remedy=f"0 to {group.channels - 1}"
        )
    if len(chosen) < group.channels and (group.fixed or not group.members):
        raise InvalidInput(f"may not change: {group.fixed or 'no operator makes it'}", field=place)
    return chosen


def _cut(op: Op, arrays: Sequence[Array], read: Array, made: Array) -> tuple[Array, ...]:
    """Return an operator's weights with the channels that it reads, and makes, now."""
    channels_read = op.inputs[0].shape[-1] if op.inputs and op.inputs[0].shape else 0
    channels_made = op.outputs[0].shape[-1] if op.outputs and op.outputs[0].shape else 0
    if not arrays or (len(read), len(made)) == (channels_read, channels_made):
        return tuple(arrays)
    if op.kind in FILTERS_FIRST:
        filters, *biases = arrays
        return (filters[made][..., read], *(bias[made] for bias in biases))
    return tuple(array[..., made] if array.ndim and array.shape[-1] == channels_made else array for array in arrays)
