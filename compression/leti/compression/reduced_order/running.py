"""Parts of a network as functions of rows: what lies between some of its values and others.

A row is what one sample makes of a value, its elements as they lie in memory, channels last, whatever its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

from leti.compression.training.executing import executable
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.generator.cost import same_padding
from leti.generator.importers import Imported
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch


CHUNK: Final = 256
"""So many samples are run at once."""


@final
class Part:
    """What a network computes of the values ``targets`` where the values ``sources`` are given.

    Only operators that targets need and sources do not save are run. Both are rows, (samples, elements).
    """

    def __init__(self, imported: Imported, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Cut the part out."""
        graph, held = imported.graph, imported.loaded_weights()
        types = graph.value_types
        self._inputs = tuple(types[value] for value in sources)
        self.sizes = tuple(t.elements for t in self._inputs)
        numbers = {value: i for i, value in enumerate(sources)}
        firsts, count, inside = graph.first_values(), len(sources), _between(graph, set(sources), set(targets))
        wiring = []
        for i in inside:
            wiring.append(tuple(numbers[value] for value in graph.wiring[i]))
            for k in range(len(graph.ops[i].outputs)):
                numbers.setdefault(firsts[i] + k, count + k)
            count += len(graph.ops[i].outputs)
        ops = tuple(graph.ops[i] for i in inside)
        part = Graph(self._inputs, ops, tuple(wiring), tuple(numbers[value] for value in targets))
        weights = tuple(tuple(held[i]) for i in inside)
        names = tuple(imported.names[i] for i in inside)
        self._network = executable(Imported(part, names, weights))

    def __call__(self, *rows: Array) -> tuple[Array, ...]:
        """Return the rows of the targets, in float64, of those of the sources."""
        samples = len(rows[0])
        given = [
            torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32).reshape(samples, *t.shape[1:]))
            for array, t in zip(rows, self._inputs, strict=True)
        ]
        with torch.inference_mode():
            made = self._network(*given)
        return tuple(tensor.numpy().reshape(samples, -1).astype(np.float64) for tensor in made)


def _between(graph: Graph, sources: set[int], targets: set[int]) -> list[int]:
    """Return the operators that targets need and sources do not save, in order."""
    firsts = graph.first_values()
    wanted = targets - sources
    needed: list[int] = []
    for i in range(len(graph.ops) - 1, -1, -1):
        if wanted.intersection(range(firsts[i], firsts[i] + len(graph.ops[i].outputs))):
            needed.append(i)
            wanted.update(value for value in graph.wiring[i] if value not in sources)
    return needed[::-1]


def pooled_elements(op: Op, elements: Array) -> Array:
    """Return which elements of its input a max pool looks at for each of ``elements`` (n,) of its output, (n, window).

    Where a window reaches over the border, one of the elements within stands for those without.
    """
    _, height, width, channels = op.outputs[0].shape
    sizes, kernel, strides = op.inputs[0].shape[1:3], op.integers("kernel"), op.integers("strides")
    dilations, padding = op.integers("dilations", (1, 1)), op.get("padding", "valid")
    pads: Sequence[int] = (0, 0, 0, 0)
    if padding == "same":
        pads = same_padding(sizes, kernel, strides, dilations)
    elif padding != "valid":
        pads = op.integers("padding")
    *places, channel = np.unravel_index(elements, (height, width, channels))
    along = []
    for axis in (0, 1):
        read = places[axis][:, None] * strides[axis] - pads[2 * axis] + np.arange(kernel[axis]) * dilations[axis]
        inside = (read >= 0) & (read < sizes[axis])
        some = np.take_along_axis(read, inside.argmax(1)[:, None], 1)
        along.append(np.where(inside, read, some))
    rows, columns = along
    read = (rows[:, :, None] * sizes[1] + columns[:, None, :]) * channels + channel[:, None, None]
    return np.asarray(read.reshape(len(elements), -1))
