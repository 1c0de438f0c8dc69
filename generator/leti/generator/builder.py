"""GraphBuilder: places operators one by one and makes a graph of them, as the TensorFlow converter would.

Three things that the converter does are done here, so that the graph is what runs: an operator without parameters that
stands twice on the same values is computed once; what does not reach the output is dropped; and a multiplication or
addition by constants right after a convolution that nothing else reads goes into the convolution's weights.

What a space stacks it stamps, see :meth:`GraphBuilder.stamp`: equal modules are placed once and shared by all networks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

from leti.core.graph import Attribute, Encoding, Graph, Op, TensorType
from leti.generator.assembly import Standing, Step, assembled, joined, nothing, start, step
from leti.generator.cost import make_operator, peak_memory_bytes
from leti.generator.float_operators import addition, tensor, unary, window
from leti.generator.fusion import find_kernels
from leti.generator.liveness import TAKES_CONSTANTS, survivors
from leti.generator.modules import REMEMBERED, Module

_UNKNOWN: Final[Any] = object()

T = TypeVar("T")

REMEMBERED_ON_STAMP: Final = 64
"""Modules, and steps, that are kept with a stamp; there are up to :data:`REMEMBERED` stamps."""

Place = Callable[..., int]
"""Places operators that read one value: ``(builder, value, *arguments)`` to the value that they make."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """A function that places operators on a value, its arguments, and how many times it is done; equal ones are one.

    What it does must follow from its arguments and the type of the value alone, and it should be a function of its
    module (a lambda is another one each time). ``alike`` says that it places the same operators on a value of any type,
    all of which keep the type: it need not be traced again for another one then.

    What was found of it is kept with it: the ``modules`` that it places on a type, by whether they fold (see
    :meth:`~leti.generator.modules.Module.of`), the ``firsts`` of them, and the ``steps`` that it makes.
    """

    function: Place
    arguments: tuple[Hashable, ...]
    times: int
    alike: bool
    firsts: dict[bool, Module] = field(default_factory=dict)
    modules: dict[tuple[TensorType, bool], Module | None] = field(default_factory=dict)
    steps: dict[Standing, Step | None] = field(default_factory=dict)

    @staticmethod
    def of(function: Place, *arguments: Hashable, times: int = 1, alike: bool = False) -> Stamp:
        """Return the one stamp with these properties."""
        return _stamp(function, arguments, times, alike)


_stamp = functools.lru_cache(maxsize=REMEMBERED)(Stamp)


@final
class GraphBuilder:
    """Operators in float32, batch first and channels last, over one input. Values are numbers; the input is 0.

    As long as there is nothing but a chain of stamps, these are not placed one by one: what the ``i``-th stamp makes
    is ``-i`` then. The first operator that is placed on its own has them placed before it.
    """

    def __init__(self, input_type: TensorType) -> None:
        self._types: list[TensorType] = [input_type]
        self._ops: list[Op] = []
        self._wiring: list[tuple[int, ...]] = []
        self._ports: dict[int, int] = {}  # of what stands for a further output of an operator: which one
        self._placed: dict[tuple[int, tuple[int, ...]], int] = {}
        self._stamps: list[Stamp] = []
        self._steps: list[Step] = []  # what each stamp adds
        self._standing = start(input_type)
        self._settled: list[int] = []  # what stamps make, as numbers of placed values; empty while there is but those

    def channels(self, value: int) -> int:
        """Return the size of a value's last dimension."""
        return self._type(value).shape[-1]

    def shape(self, value: int) -> tuple[int, ...]:
        """Return the shape of a value."""
        return self._type(value).shape

    def stamp(self, function: Place, value: int, *arguments: Hashable, times: int = 1, alike: bool = False) -> int:
        """Return ``function(self, value, *arguments)``, done again on what it returns until it was done ``times``.

        See :class:`Stamp`. The graph is the same as without it. Where the whole network is a chain of stamps, each on
        what the last one made, what a function places is remembered.
        """
        return self.put(Stamp.of(function, *arguments, times=times, alike=alike), value)

    def put(self, stamp: Stamp, value: int) -> int:
        """Return what a stamp makes of a value; see :meth:`stamp`."""
        if not self._settled and value == -len(self._stamps):
            found = stepped(self._standing, stamp)
            if found is not None:
                self._stamps.append(stamp)
                self._steps.append(found)
                self._standing = found.after
                return -len(self._stamps)
        self._settle()
        for _ in range(stamp.times):
            value = stamp.function(self, value, *stamp.arguments)
        return value

    def put_all(self, stamps: Iterable[Stamp]) -> int:
        """Return what stamps make of the input, each on what the one before made."""
        value = 0
        for stamp in stamps:
            value = self.put(stamp, value)
        return value

    def begun(self, function: Callable[..., T], value: int, *arguments: Hashable) -> T:
        """Return ``function(self, value, *arguments)``, which returns values that it made.

        Where it is the first to place operators on the input, what it placed is remembered: modules that begin alike,
        as cells do that differ in their last edges, share it.
        """
        if value or self._ops or self._stamps:
            return function(self, value, *arguments)
        like, made = _begun(function, arguments, self._types[0])
        self._types, self._ops, self._wiring = [*like._types], [*like._ops], [*like._wiring]
        self._ports, self._placed, self._settled = {**like._ports}, {**like._placed}, [*like._settled]
        result: T = made
        return result

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
        return self._put(unary("relu", self._type(value)), (value,))

    def zero(self, value: int) -> int:
        """Place a multiplication by zero."""
        return self._put(unary("zero", self._type(value)), (value,))

    def unary(self, kind: str, value: int, **attributes: Attribute) -> int:
        """Place an operator of one operand that keeps its shape, such as an activation."""
        return self.place(kind, (value,), self._type(value).shape, **attributes)

    def place(
        self,
        kind: str,
        sources: Sequence[int],
        shape: tuple[int, ...],
        dtype: str = "float32",
        /,
        **attributes: Attribute,
    ) -> int:
        """Place any operator of :data:`~leti.generator.cost.OPERATORS` that has one output, of this shape and type."""
        return self._place(kind, tuple(sources), shape, tuple(sorted(attributes.items())), dtype)

    def place_many(
        self, kind: str, sources: Sequence[int], types: Sequence[TensorType], **attributes: Attribute
    ) -> tuple[int, ...]:
        """Place an operator of several outputs, of these types; return what it makes."""
        read = tuple([self._type(source) for source in sources])
        op = make_operator(kind, read, tuple(types), tuple(sorted(attributes.items())))
        first = self._put(op, tuple(sources))
        if first == len(self._types) - 1:  # it did not stand here already
            for output in range(1, len(types)):
                self._ports[len(self._ops)] = output
                self._ops.append(op)
                self._wiring.append((first,))
                self._types.append(types[output])
        return tuple(range(first, first + len(types)))

    def batch_norm(self, value: int) -> int:
        """Place a batch norm with fixed statistics: a multiplication and an addition a channel."""
        shape = self._type(value).shape
        return self._place("shift", (self._place("scale", (value,), shape),), shape)

    def add(self, values: Sequence[int]) -> int:
        """Place the additions that sum values from left to right; of one value, none."""
        total = values[0]
        for value in values[1:]:
            total = self._put(addition(self._type(total), self._type(value)), (total, value))
        return total

    def concat(self, values: Sequence[int]) -> int:
        """Place a concatenation of channels; of one value, none."""
        if len(values) == 1:
            return values[0]
        shape = (*self._type(values[0]).shape[:-1], sum(self.channels(value) for value in values))
        return self._place("concat", tuple(values), shape, (("axis", len(shape) - 1),))

    def first_channels(self, value: int, channels: int) -> int:
        """Place a slice of the first channels; none where it would keep them all."""
        if channels == self.channels(value):
            return value
        return self._place("slice", (value,), (*self._type(value).shape[:-1], channels))

    def global_mean(self, value: int) -> int:
        """Place the mean over height and width."""
        batch, _, _, channels = self._type(value).shape
        return self._place("mean", (value,), (batch, channels), (("axes", (1, 2)),))

    def fully_connected(self, value: int, units: int) -> int:
        """Place a fully connected layer with bias."""
        return self._place("fully_connected", (value,), (self._type(value).shape[0], units))

    def graph(self, output: int, encoding: Encoding | None = None) -> Graph:
        """Return the graph of everything that reaches ``output``, with costs, kernels and peak memory."""
        if self._stamps and not self._settled and output == -len(self._stamps):
            return assembled(self._types[0], self._steps, encoding)
        output = self._number(output)
        kept, wiring, made = survivors([op.kind for op in self._ops], self._wiring, output)
        ops = [self._ops[i] for i in kept]
        if self._ports:
            ops, wiring, made = self._joined(kept, wiring, made)
        outputs = (made,)
        kernels = find_kernels(ops, wiring, outputs)
        peak = peak_memory_bytes(self._types[:1], ops, wiring, outputs, kernels)
        return Graph((self._types[0],), tuple(ops), wiring, outputs, peak, kernels, encoding)

    def _joined(
        self, kept: Sequence[int], wiring: Sequence[tuple[int, ...]], made: int
    ) -> tuple[list[Op], tuple[tuple[int, ...], ...], int]:
        """Return operators, wiring and output once what makes a further output is the operator that makes the first."""
        ops: list[Op] = []
        rows: list[tuple[int, ...]] = []
        numbers, values = [0], 1
        for i, sources in zip(kept, wiring, strict=True):
            if i in self._ports:
                numbers.append(numbers[sources[0]] + self._ports[i])
                continue
            numbers.append(values)
            values += len(self._ops[i].outputs)
            ops.append(self._ops[i])
            rows.append(tuple([numbers[source] for source in sources]))
        return ops, tuple(rows), numbers[made]

    def _window(self, kind: str, value: int, channels: int, kernel: int, stride: int, **more: Attribute) -> int:
        if more:
            _, height, width, _ = self._type(value).shape
            shape = (self._type(value).shape[0], -(-height // stride), -(-width // stride), channels)
            more = {"kernel": (kernel, kernel), "padding": "same", "strides": (stride, stride), **more}
            return self.place(kind, (value,), shape, **more)
        return self._put(window(kind, self._type(value), channels, kernel, stride), (value,))

    def _place(
        self,
        kind: str,
        sources: tuple[int, ...],
        shape: tuple[int, ...],
        attributes: tuple[tuple[str, Attribute], ...] = (),
        dtype: str = "float32",
    ) -> int:
        types = tuple([self._type(source) for source in sources])
        return self._put(make_operator(kind, types, (tensor(shape, dtype),), attributes), sources)

    def _put(self, op: Op, sources: tuple[int, ...]) -> int:
        if len(self._settled) != 1:  # there are stamps
            sources = tuple([self._number(source) for source in sources])
        if not op.params:  # what has weights of its own is never merged
            # An operator that stands here already is the same object, and lives as long as its number.
            key = (id(op), sources)
            if len(sources) > 1 and op.is_commutative:
                key = (id(op), tuple(sorted(sources)))
            known = self._placed.setdefault(key, len(self._types))
            if known < len(self._types):
                return known
        self._ops.append(op)
        self._wiring.append(sources)
        self._types.append(op.outputs[0])
        return len(self._types) - 1

    def _type(self, value: int) -> TensorType:
        return self._types[value] if value >= 0 else self._steps[-value - 1].after.output_type

    def _number(self, value: int) -> int:
        """Return the number of a value once every operator is placed one by one."""
        self._settle()
        return value if value >= 0 else self._settled[-value]

    def _settle(self) -> None:
        """Place what was stamped, one by one."""
        if self._settled:
            return
        self._settled = [0]
        for stamp in self._stamps:
            value = self._settled[-1]
            for _ in range(stamp.times):
                value = stamp.function(self, value, *stamp.arguments)
            self._settled.append(value)

    def traced(self, output: int, *, folds: bool) -> Module | None:
        """Return what was placed as a module; ``folds`` is as in :meth:`~leti.generator.modules.Module.of`.

        Operators of modules have one output: where there is one of several, nothing is returned.
        """
        output = self._number(output)
        if self._ports:
            return None
        return Module.of(self._types, self._ops, self._wiring, output, folds=folds)


def stacked(input_type: TensorType, stamps: Iterable[Stamp], encoding: Encoding | None) -> Graph | None:
    """Return the graph of one stamp or more, each on what the one before made, the first on a graph's input.

    The same graph as a builder makes of them; nothing is returned where it would have to place one by one.
    """
    standing, steps = start(input_type), []
    for stamp in stamps:
        found = stepped(standing, stamp)
        if found is None:
            return None
        steps.append(found)
        standing = found.after
    return assembled(input_type, steps, encoding)


def stepped(before: Standing, stamp: Stamp) -> Step | None:
    """Return what a stamp adds to what stands before it, nothing where it cannot be put together of modules."""
    found: Step | None = stamp.steps.get(before, _UNKNOWN)
    if found is _UNKNOWN:
        if len(stamp.steps) >= REMEMBERED_ON_STAMP:
            stamp.steps.clear()
        found = stamp.steps[before] = _stepped(before, stamp)
    return found


def _stepped(before: Standing, stamp: Stamp) -> Step | None:
    steps: list[Step] = []
    standing, left = before, stamp.times
    while left:
        module = _module(stamp, standing.output_type, standing.maker)
        if module is None:
            return None
        count = left
        if left > 1 and not (module.retypes and module.plan.same_everywhere):
            maker = module.ops[-1] if module.ops else standing.maker
            follows = module.output_type == module.input_type and _module(stamp, module.output_type, maker) is module
            count = left if follows else 1
        found = step(standing, module, count)
        if found is None:
            return None
        steps.append(found)
        standing, left = found.after, left - count
    return joined(steps) if steps else nothing(before)


def _module(stamp: Stamp, input_type: TensorType, maker: Op | None) -> Module | None:
    """Return the module that a stamp places on what ``maker`` made, if it can be one."""
    module = _traced(stamp, input_type, False)
    if module is not None and module.plan.entry_folds and maker is not None and maker.kind in TAKES_CONSTANTS:
        return _traced(stamp, input_type, True)
    return module


def _traced(stamp: Stamp, input_type: TensorType, folds: bool) -> Module | None:
    """Return what a stamp places on a value; what it placed on another one is put on this one, if they are alike."""
    found: Module | None = stamp.modules.get((input_type, folds), _UNKNOWN)
    if found is _UNKNOWN:
        like = stamp.firsts.get(folds)
        if like is not None and like.retypes:
            found = like.retyped(input_type)
        else:
            builder = GraphBuilder(input_type)
            found = builder.traced(stamp.function(builder, 0, *stamp.arguments), folds=folds)
            if stamp.alike and found is not None:
                stamp.firsts[folds] = found
        if len(stamp.modules) >= REMEMBERED_ON_STAMP:
            stamp.modules.clear()
        stamp.modules[input_type, folds] = found
    return found


@functools.lru_cache(maxsize=REMEMBERED // 8)
def _begun(function: Callable[..., Any], arguments: tuple[Hashable, ...], input_type: TensorType) -> Any:
    """Return a builder on whose input a function has placed operators, and what the function returned."""
    builder = GraphBuilder(input_type)
    return builder, function(builder, 0, *arguments)
