"""Reconstruction: layers of a smaller network are fitted to what the network that it was made of computes.

One layer after the other, each on what the layers before it make by then, by least squares: "Channel Pruning for
Accelerating Very Deep Neural Networks" (He et al., 2017), where what is kept is chosen by other criteria.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from leti.compression.training.executing import Network, executable, threads, weights_of
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Op
from leti.generator.cost import same_padding, weight_shapes
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch

ROWS: Final = 8192
"""Places that a layer is fitted at, over all samples, at the most."""

MOST_ELEMENTS: Final = 2**23
"""Of what a layer reads at those places; one that reads more at each is fitted at fewer."""

RIDGE: Final = 1e-2
"""Of the mean square of what a layer reads: what holds its weights to those that it has."""

_BATCH: Final = 32

_FITTED: Final = frozenset({"conv2d", "fully_connected"})


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a network computes on some samples ``inputs``, ``(samples, ...)``, at some places of each layer.

    ``places`` are those of an operator's output, ``(samples, places)``, flat over height and width, by its number;
    ``made`` is what it makes there, ``(samples, places, channels)``.
    """

    imported: Imported
    inputs: Array
    places: Mapping[int, Array]
    made: Mapping[int, Array]

    @classmethod
    def of(cls, imported: Imported, inputs: Array, *, rows: int = ROWS, seed: int = 0) -> Self:
        """Return what a network of one input computes, at about so many places a layer, drawn by ``seed``.

        Raises :class:`~leti.core.errors.InvalidInput` where it has no weights, or the inputs do not fit.
        """
        if len(imported.graph.inputs) != 1 or not len(inputs):
            raise InvalidInput("must be samples of a network of one input", field="inputs")
        firsts = imported.graph.first_values()
        ops = {i: op for i, op in enumerate(imported.graph.ops) if _is_fitted(op)}
        rng = np.random.default_rng(seed)
        places = {i: _drawn(rng, op, len(inputs), rows) for i, op in ops.items()}
        made: dict[int, list[Array]] = {i: [] for i in ops}
        network = executable(imported, values=[firsts[i] for i in ops])
        for start, values in _run(network, inputs, len(ops)):
            for i, value in zip(ops, values, strict=True):
                chosen = places[i][start : start + _BATCH]
                flat = value.reshape(len(chosen), -1, value.shape[-1])
                made[i].append(np.take_along_axis(flat, chosen[:, :, None], axis=1).astype(np.float64))
        return cls(imported, inputs, places, {i: np.concatenate(parts) for i, parts in made.items()})


def reconstructed(imported: Imported, reference: Reference, origins: Mapping[int, tuple[int, Array]]) -> Imported:
    """Return a smaller network whose layers make, as nearly as they can, what the reference made.

    ``origins`` say of the reference's operators, by their numbers, which operator makes their output now, and which of
    the channels are left. Fitted are convolutions without groups and fully connected layers that read fewer channels
    than the one that they come from, in the network's order; their biases with them.
    """
    graph, bases = imported.graph, reference.imported.graph.ops
    fitted = {
        now: (base, left) for base, (now, left) in origins.items()
        if base in reference.made and _is_fitted(graph.ops[now])
        and graph.ops[now].inputs[0].shape[-1] < bases[base].inputs[0].shape[-1]
    }  # fmt: skip
    if not fitted:
        return imported
    order = sorted(fitted)
    network = executable(imported, values=[graph.wiring[i][0] for i in order])
    weights = imported.loaded_weights()
    for i, number in enumerate(order):
        base, left = fitted[number]
        op, places, rows = graph.ops[number], reference.places[base], list[Array]()
        for start, values in _run(network, reference.inputs, len(order)):
            rows.append(_rows(op, values[i], places[start : start + _BATCH]))
        aims = reference.made[base][:, :, left].reshape(-1, len(left))
        _put(network, number, _fit(weights[number], np.concatenate(rows), aims))
    return weights_of(network, imported)


def _drawn(rng: np.random.Generator, op: Op, samples: int, rows: int) -> Array:
    """Return places of an operator's output, ascending, as many of each sample: ``(samples, places)``."""
    read = math.prod(weight_shapes(op)[0][1:])
    every = math.prod(op.outputs[0].shape[:-1]) // op.outputs[0].shape[0]
    count = min(max(min(rows, MOST_ELEMENTS // read) // samples, 1), every)
    if count == every:
        return np.tile(np.arange(every), (samples, 1))
    return np.sort(rng.integers(0, every, (samples, count)), axis=1)  # some twice, which does no harm


def _run(network: Network, inputs: Array, count: int) -> Iterator[tuple[int, list[Array]]]:
    """Yield of some samples at a time the number of the first, and the ``count`` values that a network returns last."""
    for start in range(0, len(inputs), _BATCH):
        given = torch.from_numpy(np.ascontiguousarray(inputs[start : start + _BATCH]))
        with threads(1), torch.inference_mode():
            made = network(given)
        yield start, [value.numpy() for value in made[len(made) - count :]]


def _is_fitted(op: Op) -> bool:
    return op.kind in _FITTED and op.integer("groups", 1) == 1


def _rows(op: Op, read: Array, places: Array) -> Array:
    """Return what an operator reads for each place, ``(samples, places)``, of its output: ``(rows, elements)``."""
    every = math.prod(op.outputs[0].shape[:-1]) // op.outputs[0].shape[0]
    flat = (np.arange(len(places))[:, None] * every + places).reshape(-1)
    if op.kind == "fully_connected":
        return np.asarray(read.reshape(-1, read.shape[-1])[flat], np.float64)
    kernel = op.integers("kernel")
    strides, dilations = op.integers("strides", (1, 1)), op.integers("dilations", (1, 1))
    padding = op["padding"]
    pads = same_padding(read.shape[1:3], kernel, strides, dilations) if padding == "same" else (0, 0, 0, 0)
    if not isinstance(padding, str):
        pads = op.integers("padding")
    padded = np.pad(read, ((0, 0), pads[:2], pads[2:], (0, 0)))
    sample, y, x = np.unravel_index(flat, (len(read), *op.outputs[0].shape[1:3]))
    down = y[:, None] * strides[0] + np.arange(kernel[0]) * dilations[0]
    across = x[:, None] * strides[1] + np.arange(kernel[1]) * dilations[1]
    found = padded[sample[:, None, None], down[:, :, None], across[:, None, :]]
    return np.asarray(found.reshape(len(flat), -1), np.float64)


def _fit(arrays: tuple[Array, ...], rows: Array, aims: Array) -> tuple[Array, ...]:
    """Return filters ``(out, ..., in)``, with a bias where there is one, that make the aims ``(rows, out)`` of rows."""
    filters, *biases = arrays
    now = filters.reshape(len(filters), -1).T.astype(np.float64)
    middle = (rows.mean(axis=0), aims.mean(axis=0)) if biases else (np.zeros(rows.shape[1]), np.zeros(aims.shape[1]))
    centred = rows - middle[0]
    missed = aims - middle[1] - centred @ now
    is_tall = len(rows) >= rows.shape[1]
    gram = centred.T @ centred if is_tall else centred @ centred.T
    gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / rows.shape[1] or 1.0
    change = np.linalg.solve(gram, centred.T @ missed) if is_tall else centred.T @ np.linalg.solve(gram, missed)
    found = now + change
    bias = middle[1] - middle[0] @ found
    made = found.T.reshape(filters.shape).astype(np.float32)
    return (made, *(bias.astype(np.float32) for _ in biases))


def _put(network: Network, number: int, arrays: tuple[Array, ...]) -> None:
    """Give an operator of a network other weights."""
    with torch.no_grad():
        for trained in network.trained:
            if trained.number == number:
                parameter = network.parameter(trained)
                moved = arrays[trained.position].reshape(-1)[trained.order]
                parameter.copy_(torch.from_numpy(moved).reshape(parameter.shape))
