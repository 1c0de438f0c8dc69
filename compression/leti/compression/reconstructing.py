"""Reconstruction: layers of a smaller network are fitted to what the network that it was made of computes.

One layer after the other, each on what the layers before it make by then, by least squares: "Channel Pruning for
Accelerating Very Deep Neural Networks" (He et al., 2017), where what is kept is chosen by other criteria.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from leti.compression.training.executing import Network, executable, outputs, threads, weights_of
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Op
from leti.generator.cost import same_padding
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch

ROWS: Final = 8192
"""Places that a layer is fitted at, over all samples."""

RIDGE: Final = 1e-2
"""Of the mean square of what a layer reads: what holds its weights to those that it has."""

_FITTED: Final = frozenset({"conv2d", "fully_connected"})


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What a network computes on some samples ``inputs``, ``(samples, ...)``, at some places of each layer.

    ``places`` are those of an operator's output, flat over samples, height and width, by its number; ``made`` is what
    it makes there, ``(places, channels)``.
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
        firsts, count = imported.graph.first_values(), len(imported.graph.outputs)
        numbers = [i for i, op in enumerate(imported.graph.ops) if _is_fitted(op)]
        with threads(1):
            values = outputs(imported, [inputs], [firsts[i] for i in numbers])[count:]
        rng = np.random.default_rng(seed)
        places, made = {}, {}
        for number, value in zip(numbers, values, strict=True):
            flat = value.reshape(-1, value.shape[-1])
            places[number] = np.sort(rng.permutation(len(flat))[:rows])
            made[number] = flat[places[number]].astype(np.float64)
        return cls(imported, inputs, places, made)


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
    given = torch.from_numpy(np.ascontiguousarray(reference.inputs))
    weights = imported.loaded_weights()
    for i, number in enumerate(order):
        base, left = fitted[number]
        with threads(1), torch.inference_mode():
            read = network(given)[len(graph.outputs) + i].numpy()
        rows = _rows(graph.ops[number], read, reference.places[base])
        _put(network, number, _fit(weights[number], rows, reference.made[base][:, left]))
    return weights_of(network, imported)


def _is_fitted(op: Op) -> bool:
    return op.kind in _FITTED and op.integer("groups", 1) == 1


def _rows(op: Op, read: Array, places: Array) -> Array:
    """Return what an operator reads for each of some places of its output: ``(places, window × channels)``, float64."""
    if op.kind == "fully_connected":
        return np.asarray(read.reshape(-1, read.shape[-1])[places], np.float64)
    kernel = op.integers("kernel")
    strides, dilations = op.integers("strides", (1, 1)), op.integers("dilations", (1, 1))
    padding = op["padding"]
    pads = same_padding(read.shape[1:3], kernel, strides, dilations) if padding == "same" else (0, 0, 0, 0)
    if not isinstance(padding, str):
        pads = op.integers("padding")
    padded = np.pad(read, ((0, 0), pads[:2], pads[2:], (0, 0)))
    sample, y, x = np.unravel_index(places, (len(read), *op.outputs[0].shape[1:3]))
    down = y[:, None] * strides[0] + np.arange(kernel[0]) * dilations[0]
    across = x[:, None] * strides[1] + np.arange(kernel[1]) * dilations[1]
    found = padded[sample[:, None, None], down[:, :, None], across[:, None, :]]
    return np.asarray(found.reshape(len(places), -1), np.float64)


def _fit(arrays: tuple[Array, ...], rows: Array, aims: Array) -> tuple[Array, ...]:
    """Return filters ``(out, ..., in)``, with a bias where there is one, that make the aims ``(rows, out)`` of rows."""
    filters, *biases = arrays
    now = filters.reshape(len(filters), -1).T.astype(np.float64)
    middle = (rows.mean(axis=0), aims.mean(axis=0)) if biases else (np.zeros(rows.shape[1]), np.zeros(aims.shape[1]))
    centred = rows - middle[0]
    gram = centred.T @ centred
    ridge = RIDGE * np.trace(gram) / len(gram) or 1.0
    missed = aims - middle[1] - centred @ now
    change = np.linalg.solve(gram + ridge * np.eye(len(gram)), centred.T @ missed)
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
