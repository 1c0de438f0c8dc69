"""GraphBuilder: places operators one by one and makes a graph of them, as the TensorFlow converter would.

Three things that the converter does are done here, so that the graph is what runs: an operator without parameters that
stands twice on the same values is computed once; what does not reach the output is dropped; and a multiplication or
addition by constants right after a convolution that nothing else reads goes into the convolution's weights.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import final

from leti.core.graph import COMMUTATIVE, Attribute, Encoding, Graph, Op, TensorType
from leti.generator.cost import make_operator, peak_memory_bytes
from leti.generator.fusion import find_kernels

_FOLDS = frozenset({"scale", "shift", "zero"})
_TAKES_CONSTANTS = frozenset({"conv2d", "depthwise_conv2d", "fully_connected"})  # that follow them, in their weights


@final
class GraphBuilder:
    """Operators in float32, batch first and channels last, over one input. Values are numbers; the input is 0."""

    def __init__(self, input_type: TensorType) -> None:
        self._types: list[TensorType] = [input_type]
        self._ops: list[Op] = []
        self._wiring: list[tuple[int, ...]] = []
        self._placed: dict[tuple[bytes, tuple[int, ...]], int] = {}

    def channels(self, value: int) -> int:
        """Return the size of a value's last dimension."""
        return self._types[value].shape[-1]

    def shape(self, value: int) -> tuple[int, ...]:
        """Return the shape of a value."""
        return self._types[value].shape

    def conv(self, value: int, channels: int, kernel: int, stride: int = 1, **more: Attribute) -> int:
        """Place a convolution with bias, padded to ``ceil(size / stride)``; a batch norm after it is in its weights.

        ``more`` are further attributes of ``conv2d``: ``groups``, ``dilations``.
        """
        return self._window("conv2d", value, channels, kernel, stride, **more)

    def depthwise_conv(self, value: int, kernel: int, stride: int = 1, **more: Attribute) -> int:
        """Place a convolution of each channel for itself, with bias and padding as :meth:`conv`."""
        return self._window("depthwise_conv2d", value, self.channels(value), kernel, stride, **more)

    def avg_pool(self, value: int, kernel: int, stride: int = 1) -> int:
        """Place an average pool, padded to ``ceil(size / stride)``; padding is not counted in the average."""
        return self._window("avg_pool2d", value, self.channels(value), kernel, stride)

    def max_pool(self, value: int, kernel: int, stride: int = 1) -> int:
        """Place a maximum pool, padded to ``ceil(size / stride)``."""
        return self._window("max_pool2d", value, self.channels(value), kernel, stride)

    def relu(self, value: int) -> int:
        """Place a ReLU."""
        return self.unary("relu", value)

    def zero(self, value: int) -> int:
        """Place a multiplication by zero."""
        return self.unary("zero", value)

    def unary(self, kind: str, value: int, **attributes: Attribute) -> int:
        """Place an operator of one operand that keeps its shape, such as an activation."""
        return self.place(kind, (value,), self._types[value].shape, **attributes)

    def place(self, kind: str, sources: Sequence[int], shape: tuple[int, ...], **attributes: Attribute) -> int:
        """Place any operator of :data:`~leti.generator.cost.OPERATORS` that has one output, of this shape."""
        return self._place(kind, tuple(sources), shape, tuple(sorted(attributes.items())))

    def batch_norm(self, value: int) -> int:
        """Place a batch norm with fixed statistics: a multiplication and an addition a channel."""
        shape = self._types[value].shape
        return self._place("shift", (self._place("scale", (value,), shape),), shape)

    def add(self, values: Sequence[int]) -> int:
        """Place the additions that sum values from left to right; of one value, none."""
        return functools.reduce(lambda a, b: self._place("add", (a, b), self._types[a].shape), values)

    def concat(self, values: Sequence[int]) -> int:
        """Place a concatenation of channels; of one value, none."""
        if len(values) == 1:
            return values[0]
        shape = (*self._types[values[0]].shape[:-1], sum(self.channels(value) for value in values))
        return self._place("concat", tuple(values), shape, (("axis", len(shape) - 1),))

    def first_channels(self, value: int, channels: int) -> int:
        """Place a slice of the first channels; none where it would keep them all."""
        if channels == self.channels(value):
            return value
        return self._place("slice", (value,), (*self._types[value].shape[:-1], channels))

    def global_mean(self, value: int) -> int:
        """Place the mean over height and width."""
        batch, _, _, channels = self._types[value].shape
        return self._place("mean", (value,), (batch, channels), (("axes", (1, 2)),))

    def fully_connected(self, value: int, units: int) -> int:
        """Place a fully connected layer with bias."""
        return self._place("fully_connected", (value,), (self._types[value].shape[0], units))

    def graph(self, output: int, encoding: Encoding | None = None) -> Graph:
        """Return the graph of everything that reaches ``output``, with costs, kernels and peak memory."""
        stands_for = self._fold(output)
        numbers, ops, wiring = {0: 0}, [], []
        for i in self._alive(stands_for[output], stands_for):
            ops.append(self._ops[i])
            wiring.append(tuple(numbers[stands_for[source]] for source in self._wiring[i]))
            numbers[i + 1] = len(ops)
        outputs = (numbers[stands_for[output]],)
        kernels = find_kernels(ops, wiring, outputs)
        peak = peak_memory_bytes(self._types[:1], ops, wiring, outputs, kernels)
        return Graph((self._types[0],), tuple(ops), tuple(wiring), outputs, peak, kernels, encoding)

    def _window(self, kind: str, value: int, channels: int, kernel: int, stride: int, **more: Attribute) -> int:
        batch, height, width, _ = self._types[value].shape
        shape = (batch, -(-height // stride), -(-width // stride), channels)
        return self.place(
            kind, (value,), shape, kernel=(kernel, kernel), padding="same", strides=(stride, stride), **more
        )

    def _place(
        self,
        kind: str,
        sources: tuple[int, ...],
        shape: tuple[int, ...],
        attributes: tuple[tuple[str, Attribute], ...] = (),
    ) -> int:
        op = make_operator(kind, tuple(self._types[source] for source in sources), (_tensor(shape),), attributes)
        if not op.params:  # what has weights of its own is never merged
            key = (op.signature, tuple(sorted(sources)) if kind in COMMUTATIVE else sources)
            known = self._placed.setdefault(key, len(self._types))
            if known < len(self._types):
                return known
        self._ops.append(op)
        self._wiring.append(sources)
        self._types.append(op.outputs[0])
        return len(self._types) - 1

    def _alive(self, output: int, stands_for: Sequence[int]) -> list[int]:
        """Return the numbers of the operators that reach ``output``, in order."""
        wanted = {output}
        for i in range(len(self._ops) - 1, -1, -1):
            if i + 1 in wanted:
                wanted.update(stands_for[source] for source in self._wiring[i])
        return [i for i in range(len(self._ops)) if i + 1 in wanted]

    def _fold(self, output: int) -> list[int]:
        """Return for each value the value that it becomes once constants are folded into convolutions before them."""
        stands_for = list(range(len(self._types)))
        readers = [0] * len(self._types)
        readers[output] += 1
        alive = self._alive(output, stands_for)
        for i in alive:
            for source in self._wiring[i]:
                readers[source] += 1
        for i in alive:
            if self._ops[i].kind in _FOLDS:
                (source,) = self._wiring[i]
                target = stands_for[source]
                if readers[source] == 1 and target > 0 and self._ops[target - 1].kind in _TAKES_CONSTANTS:
                    stands_for[i + 1] = target
        return stands_for


@functools.lru_cache(maxsize=4096)
def _tensor(shape: tuple[int, ...]) -> TensorType:
    return TensorType(shape)
