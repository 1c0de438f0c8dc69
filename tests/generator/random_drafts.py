"""Random drafts: any operators in any layout, and networks that are built channels first and channels last alike."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from leti.core.graph import TensorType
from leti.generator.importers.draft import Constant, Draft

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
Shape = tuple[int, ...]


def tensor(shape: Sequence[int]) -> TensorType:
    return TensorType(tuple(shape))


class Source:
    """Draws of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._values = np.random.default_rng(seed)

    def constant(self, *shape: int) -> Constant:
        return Constant.of(self._values.standard_normal(shape).astype(np.float32))

    def positive(self, *shape: int) -> Constant:
        return Constant.of((self._values.random(shape) + 0.5).astype(np.float32))

    def array(self, shape: Shape) -> np.ndarray:
        return self._values.standard_normal(shape)


# --- any operators ---------------------------------------------------------------------------------------------------


class RandomDraft:
    """A draft of operators that are drawn among those that some value allows."""

    def __init__(self, seed: int, steps: int) -> None:
        self.source = Source(seed)
        self.rng = self.source.rng
        self.draft = Draft()
        shapes = [(2, 3, 4, 5), (1, 2, 3, 3), (2, 4, 6), (1, 6), (2, 1, 4, 1)]
        self.values = [self.draft.input(tensor(self.rng.choice(shapes))) for _ in range(self.rng.choice((1, 1, 2)))]
        for _ in range(steps):
            self._step()
        unread = [value for value, count in enumerate(self.draft.readers()) if not count]
        self.draft.outputs = unread[: self.rng.choice((1, 2, 9))] or [self.values[-1]]

    def shape(self, value: int) -> Shape:
        return self.draft.types[value].shape

    def _step(self) -> None:
        value = self.rng.choice([value for value in self.values if self.shape(value)][-4:])
        kinds = list(STEPS)
        self.rng.shuffle(kinds)
        for kind in kinds:
            made = STEPS[kind](self, value, self.shape(value))
            if made is not None:
                self.values += [v for v in np.atleast_1d(made).tolist() if math.prod(self.shape(v)) <= 4000]
                return

    def place(self, kind: str, inputs: Sequence[int], shape: Sequence[int], **more: object) -> int:
        return self.draft.place(kind, inputs, tensor(shape), **more)  # type: ignore[arg-type]


def _unary(net: RandomDraft, value: int, shape: Shape) -> int:
    kind = net.rng.choice(("relu", "sigmoid", "tanh", "abs", "neg", "hard_swish", "leaky_relu", "clip"))
    more = {"leaky_relu": {"alpha": 0.2}, "clip": {"low": -0.5, "high": 6.0}}.get(kind, {})
    return net.place(kind, (value,), shape, **more)


def _transpose(net: RandomDraft, value: int, shape: Shape) -> int:
    perm = net.rng.choice(list(itertools.permutations(range(len(shape)))))
    if len(shape) == 4 and net.rng.random() < 0.6:
        perm = net.rng.choice((FIRST, LAST))
    return net.place("transpose", (value,), [shape[axis] for axis in perm], perm=perm)


def _reshape(net: RandomDraft, value: int, shape: Shape) -> int:
    sizes = list(shape)
    for _ in range(net.rng.choice((1, 1, 2))):
        choice = net.rng.random()
        if choice < 0.4 and len(sizes) > 1:
            axis = net.rng.randrange(len(sizes) - 1)
            sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
        elif choice < 0.7 and len(sizes) < 6:
            axis = net.rng.randrange(len(sizes))
            factor = net.rng.choice([n for n in range(1, sizes[axis] + 1) if sizes[axis] % n == 0])
            sizes[axis : axis + 1] = [factor, sizes[axis] // factor]
        elif len(sizes) < 6:
            sizes.insert(net.rng.randrange(len(sizes) + 1), 1)
        elif 1 in sizes:
            sizes.remove(1)
    return net.place("reshape", (value,), sizes)


def _binary(net: RandomDraft, value: int, shape: Shape) -> int | None:
    for other in net.rng.sample(net.values, len(net.values)):
        try:
            made = np.broadcast_shapes(shape, net.shape(other))
        except ValueError:
            continue
        if math.prod(made) <= 4000:
            kind = net.rng.choice(("add", "mul", "sub", "maximum", "squared_difference"))
            pair = net.rng.sample((value, other), 2)
            return net.place(kind, pair, made)
    return None


def _constant(net: RandomDraft, value: int, shape: Shape) -> int:
    sizes = [size if net.rng.random() < 0.6 else 1 for size in shape][net.rng.randrange(len(shape) + 1) :]
    constant = net.source.constant(*sizes)
    kind = net.rng.choice(("add", "mul", "sub", "div", "maximum"))
    if kind == "div":
        constant = net.source.positive(*sizes)
    if net.rng.random() < 0.3:
        return net.place(kind, (value, net.draft.constant(constant)), shape)
    return net.draft.binary(kind, value, constant, tensor(shape))


def _reduce(net: RandomDraft, value: int, shape: Shape) -> int | None:
    axes = tuple(sorted(net.rng.sample(range(len(shape)), net.rng.randint(1, len(shape)))))
    kept = net.rng.random() < 0.5
    made = [1 if axis in axes else size for axis, size in enumerate(shape) if kept or axis not in axes]
    return net.place(net.rng.choice(("mean", "sum", "reduce_max")), (value,), made, axes=axes, keep_dims=kept)


def _channels(net: RandomDraft, value: int, shape: Shape) -> int | None:
    if len(shape) < 2:
        return None
    c = shape[-1]
    kind = net.rng.choice(("batch_norm", "layer_norm", "scale", "shift", "prelu", "fully_connected", "rms_norm"))
    constant, positive = net.source.constant, net.source.positive
    if kind == "fully_connected":
        return net.place(kind, (value,), (*shape[:-1], 3), weights=(constant(3, c), constant(3)))
    weights: dict[str, tuple[Constant, ...]] = {
        "batch_norm": (positive(c), constant(c), constant(c), positive(c)),
        "layer_norm": (positive(c), constant(c)),
        "rms_norm": (positive(c),),
    }
    more = {} if kind in ("scale", "shift", "prelu") else {"epsilon": 1e-3}
    return net.place(kind, (value,), shape, weights=weights.get(kind, (constant(c),)), **more)


def _image(net: RandomDraft, value: int, shape: Shape) -> int | None:
    if len(shape) != 4:
        return None
    first = net.rng.random() < 0.6
    if first:
        shape = tuple(shape[axis] for axis in LAST)
        value = net.place("transpose", (value,), shape, perm=LAST)
    n, h, w, c = shape
    kind = net.rng.choice(("conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d", "resize", "instance_norm"))
    window = {"kernel": (min(3, h), min(2, w)), "strides": (1, 1), "padding": "same"}
    if kind == "conv2d":
        weights = (net.source.constant(4, *window["kernel"], c), net.source.constant(4))
        value = net.place(kind, (value,), (n, h, w, 4), weights=weights, **window)
    elif kind == "depthwise_conv2d":
        weights = (net.source.constant(1, *window["kernel"], c),)
        value = net.place(kind, (value,), shape, weights=weights, bias=False, **window)
    elif kind == "resize":
        value = net.place(kind, (value,), (n, 2 * h, w, c), method="nearest")
    elif kind == "instance_norm":
        weights = (net.source.positive(c), net.source.constant(c))
        value = net.place(kind, (value,), shape, weights=weights, epsilon=1e-3)
    else:
        value = net.place(kind, (value,), shape, **window)
    made = net.shape(value)
    return net.place("transpose", (value,), [made[axis] for axis in FIRST], perm=FIRST) if first else value


def _along_axis(net: RandomDraft, value: int, shape: Shape) -> int | tuple[int, ...] | None:
    axis = net.rng.randrange(len(shape))
    size = shape[axis]
    kind = net.rng.choice(("softmax", "cumsum", "reverse", "roll", "concat", "stack", "split", "unstack", "gather"))
    if kind in ("softmax", "cumsum"):
        return net.place(kind, (value,), shape, axis=axis)
    if kind in ("reverse", "roll"):
        more = {"shifts": (1,)} if kind == "roll" else {}
        return net.place(kind, (value,), shape, axes=(axis,), **more)
    same = [other for other in net.values if net.shape(other) == shape]
    if kind == "concat":
        return net.place(kind, (value, same[0]), (*shape[:axis], 2 * size, *shape[axis + 1 :]), axis=axis)
    if kind == "stack":
        return (
            net.place(kind, (value, same[0]), (*shape[:axis], 2, *shape[axis:]), axis=axis) if len(shape) < 5 else None
        )
    rest = (*shape[:axis], *shape[axis + 1 :])
    if kind == "unstack":
        return net.draft.place_many(kind, (value,), [tensor(rest)] * size, axis=axis)
    if kind == "gather":
        indices = net.draft.constant(Constant.of(np.asarray([[0, size - 1, 0]]), "int32"))
        return (
            net.place(kind, (value, indices), (*shape[:axis], 1, 3, *shape[axis + 1 :]), axis=axis)
            if len(shape) < 5
            else None
        )
    if size % 2:
        return None
    half = tensor((*shape[:axis], size // 2, *shape[axis + 1 :]))
    return net.draft.place_many(kind, (value,), [half, half], axis=axis)


def _window(net: RandomDraft, value: int, shape: Shape) -> int:
    kind = net.rng.choice(("slice", "pad", "tile"))
    if kind == "slice":
        begin = tuple(net.rng.randrange(size) for size in shape)
        sizes = [net.rng.randint(1, size - start) for size, start in zip(shape, begin, strict=True)]
        return net.place(kind, (value,), sizes, begin=begin)
    if kind == "pad":
        pads = tuple(net.rng.choice((0, 0, 0, 1, 2)) for _ in range(2 * len(shape)))
        made = [size + pads[2 * i] + pads[2 * i + 1] for i, size in enumerate(shape)]
        return net.place(kind, (value,), made, paddings=pads)
    times = tuple(net.rng.choice((1, 1, 2)) for _ in shape)
    return net.place(kind, (value,), [size * n for size, n in zip(shape, times, strict=True)], multiples=times)


def _dense(net: RandomDraft, value: int, shape: Shape) -> int | None:
    if len(shape) < 3:
        return None
    features = math.prod(shape[1:])
    flat = net.place("reshape", (value,), (shape[0], features))
    if net.rng.random() < 0.5:
        flat = net.place("relu", (flat,), (shape[0], features))
    if net.rng.random() < 0.5:
        flat = net.place("shift", (flat,), (shape[0], features), weights=(net.source.constant(features),))
    return net.place("fully_connected", (flat,), (shape[0], 3), weights=(net.source.constant(3, features),), bias=False)


def _matmul(net: RandomDraft, value: int, shape: Shape) -> int | None:
    if len(shape) < 2:
        return None
    if net.rng.random() < 0.5:
        matrix = net.draft.constant(net.source.constant(shape[-1], 3))
        return net.place("matmul", (value, matrix), (*shape[:-1], 3))
    return net.place("matmul", (value, value), (*shape[:-1], shape[-2]), transpose_b=True)


STEPS: dict[str, Callable[[RandomDraft, int, Shape], int | tuple[int, ...] | None]] = {
    "unary": _unary,
    "transpose": _transpose,
    "transpose again": _transpose,
    "reshape": _reshape,
    "binary": _binary,
    "constant": _constant,
    "reduce": _reduce,
    "channels": _channels,
    "image": _image,
    "image again": _image,
    "along axis": _along_axis,
    "window": _window,
    "dense": _dense,
    "matmul": _matmul,
}


# --- networks in either layout ---------------------------------------------------------------------------------------


class Network:
    """The same network in either layout: ``first`` puts transposes around each operator that is channels last."""

    def __init__(self, seed: int, steps: int, *, first: bool) -> None:
        self.first, self.source = first, Source(seed)
        self.draft = Draft()
        self.shape = (self.source.rng.choice((1, 2)), 8, 6, self.source.rng.choice((1, 3)))
        value = self.draft.input(tensor(self._laid(self.shape)))
        self.images = [(value, self.shape)]
        value = self.conv(*self.images[0], 4)
        self.images = [(value, (*self.shape[:3], 4))]
        for _ in range(steps):
            self._step()
        self._head()

    def _laid(self, shape: Shape) -> Shape:
        return tuple(shape[axis] for axis in FIRST) if self.first else shape

    def _axis(self, axis: int) -> int:
        return FIRST.index(axis) if self.first else axis

    def wrapped(self, kind: str, value: int, before: Shape, after: Shape, **more: object) -> int:
        """Place an operator that is channels last."""
        if self.first:
            value = self.draft.place("transpose", (value,), tensor(before), perm=LAST)
        value = self.draft.place(kind, (value,), tensor(after), **more)  # type: ignore[arg-type]
        return self.draft.place("transpose", (value,), tensor(self._laid(after)), perm=FIRST) if self.first else value

    def plain(self, kind: str, inputs: Sequence[int], after: Shape, **more: object) -> int:
        """Place an operator that works in any layout."""
        return self.draft.place(kind, inputs, tensor(self._laid(after)), **more)  # type: ignore[arg-type]

    def conv(self, value: int, shape: Shape, channels: int) -> int:
        weights = (self.source.constant(channels, 3, 3, shape[-1]),)
        after = (*shape[:3], channels)
        window = {"kernel": (3, 3), "strides": (1, 1), "padding": "same", "bias": False}
        value = self.wrapped("conv2d", value, shape, after, weights=weights, **window)
        c, positive, constant = channels, self.source.positive, self.source.constant
        norm = (positive(c), constant(c), constant(c), positive(c))
        return self.wrapped("batch_norm", value, after, after, weights=norm, epsilon=1e-3)

    def _step(self) -> None:
        rng = self.source.rng
        value, shape = rng.choice(self.images[-3:])
        n, h, w, c = shape
        kind = rng.choice(("conv", "relu", "pool", "add", "concat", "gate", "slice", "pad", "scale", "shuffle", "silu"))
        if kind == "conv":
            made, shape = self.conv(value, shape, 4), (n, h, w, 4)
        elif kind == "relu":
            made = self.plain("relu", (value,), shape)
        elif kind == "silu":
            made = self.plain("mul", (value, self.plain("sigmoid", (value,), shape)), shape)
        elif kind == "pool":
            window = {"kernel": (2, 2), "strides": (1, 1), "padding": "same"}
            made = self.wrapped("max_pool2d", value, shape, shape, **window)
        elif kind == "add":
            other = rng.choice([other for other, theirs in self.images if theirs == shape])
            made = self.plain("add", (value, other), shape)
        elif kind == "concat":
            other, theirs = rng.choice([pair for pair in self.images if pair[1][:3] == shape[:3]])
            shape = (n, h, w, c + theirs[3])
            made = self.plain("concat", (value, other), shape, axis=self._axis(3))
        elif kind == "gate":
            axes = tuple(sorted((self._axis(1), self._axis(2))))
            mean = self.plain("mean", (value,), (n, 1, 1, c), axes=axes, keep_dims=True)
            made = self.plain("mul", (value, self.plain("sigmoid", (mean,), (n, 1, 1, c))), shape)
        elif kind == "slice":
            shape = (n, h, w, max(c // 2, 1))
            made = self.plain("slice", (value,), shape)
        elif kind == "pad":
            pads = ((0, 0), (1, 1), (1, 0), (0, 0))
            shape = (n, h + 2, w + 1, c)
            made = self.plain("pad", (value,), shape, paddings=sum(self._laid(pads), ()))  # type: ignore[arg-type]
        elif kind == "scale":
            constant = self.source.constant(c)
            if self.first:
                constant = constant.reshaped((c, 1, 1))
            made = self.draft.binary("mul", value, constant, tensor(self._laid(shape)))
        else:
            made = self._shuffle(value, shape)
        self.images.append((made, shape))

    def _shuffle(self, value: int, shape: Shape) -> int:
        """Exchange the halves of the channels among each other, as ShuffleNet does."""
        n, h, w, c = shape
        if c % 2:
            return self.plain("relu", (value,), shape)
        if self.first:
            steps = ((n, 2, c // 2, h, w), (0, 2, 1, 3, 4), (n, c // 2, 2, h, w), (n, c, h, w))
        else:
            steps = ((n, h, w, 2, c // 2), (0, 1, 2, 4, 3), (n, h, w, c // 2, 2), (n, h, w, c))
        before, perm, after, last = steps
        value = self.draft.place("reshape", (value,), tensor(before))
        value = self.draft.place("transpose", (value,), tensor(after), perm=perm)
        return self.draft.place("reshape", (value,), tensor(last))

    def _head(self) -> None:
        value, shape = self.images[-1]
        n, h, w, c = shape
        style = self.source.rng.choice(("mean", "flat", "image"))
        features = c
        if style == "mean":
            axes = tuple(sorted((self._axis(1), self._axis(2))))
            value = self.draft.place("mean", (value,), tensor((n, c)), axes=axes)
        elif style == "flat":
            features = h * w * c
            value = self.draft.place("reshape", (value,), tensor((n, features)))
        if style != "image":
            weight = self.source.constant(5, features)
            if style == "flat" and self.first:
                weight = weight.reshaped((5, h, w, c)).transposed((0, 3, 1, 2)).reshaped((5, features))
            value = self.draft.place(
                "fully_connected", (value,), tensor((n, 5)), weights=(weight, self.source.constant(5))
            )
        self.draft.outputs = [value]
