"""Experience: which operators and shapes training saw, so that a prediction can list what is outside.

A predictor that is asked for an operator it never met still answers, but says so: each remark names a kind, a shape or
a cost that no network of the training had. An empty list means that all of it lies inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from leti.core.extras import needs
from leti.core.graph import Attribute, Op, TensorType
from leti.predictors.batch import Batch, Vector

with needs("boosting"):
    import numpy as np

SLACK = 1.5
"""A graph whose MACs are this many times beyond the smallest or largest of the training is remarked upon."""


@final
@dataclass(frozen=True, slots=True)
class Seen:
    """What training saw of one kind of operator: ranges (lowest and highest, inclusive) and words.

    ``ranges`` holds every number of an operator by its name: each dimension of its first input and output, how many
    inputs it has, its numeric attributes; ``words`` its data types and other attributes.
    """

    ranges: dict[str, tuple[float, float]]
    words: dict[str, tuple[str, ...]]


@final
@dataclass(frozen=True, slots=True)
class Experience:
    """Kinds of operator with what was seen of each, and the range of MACs of whole graphs. JSON: field by field."""

    kinds: dict[str, Seen]
    macs: tuple[float, float]

    @classmethod
    def of(cls, batch: Batch) -> Experience:
        """Return what can be learnt of a batch of graphs."""
        ranges: dict[str, dict[str, tuple[float, float]]] = {}
        words: dict[str, dict[str, set[str]]] = {}
        for op in batch.ops:
            kind = ranges.setdefault(op.kind, {})
            for name, value in _numbers(op):
                low, high = kind.get(name, (value, value))
                kind[name] = (float(min(low, value)), float(max(high, value)))
            for name, word in _words(op):
                words.setdefault(op.kind, {}).setdefault(name, set()).add(word)
        macs = _macs(batch)
        kinds = {
            kind: Seen(
                dict(sorted(ranges[kind].items())),
                {name: tuple(sorted(found)) for name, found in sorted(words.get(kind, {}).items())},
            )
            for kind in sorted(ranges)
        }
        return cls(kinds, (float(macs.min()), float(macs.max())))

    def unknown(self, batch: Batch) -> tuple[tuple[str, ...], ...]:
        """Return remarks on each graph, sorted; empty where training saw the like of everything."""
        remarks = [self._remark(op) for op in batch.ops]
        strange = np.array([bool(remark) for remark in remarks], dtype=bool)
        listed: list[set[str]] = [set() for _ in range(len(batch))]
        for place in np.flatnonzero(strange[batch.codes]):
            listed[batch.op_graphs[place]].add(remarks[batch.codes[place]])
        macs = _macs(batch)
        low, high = self.macs
        for graph in map(int, np.flatnonzero((macs < low / SLACK) | (macs > high * SLACK))):
            listed[graph].add(f"macs: {macs[graph]:.3g} outside training, {low:.3g} to {high:.3g}")
        return tuple(tuple(sorted(found)) for found in listed)

    def _remark(self, op: Op) -> str:
        """Return what is new about an operator, or an empty string."""
        seen = self.kinds.get(op.kind)
        if seen is None or op.is_unknown:
            return op.kind
        for name, word in _words(op):
            if word not in seen.words.get(name, ()):
                return f"{name}: {op.kind} {word} not in training"
        for name, value in _numbers(op):
            low, high = seen.ranges.get(name, (1.0, 0.0))
            if not low <= value <= high:
                if name.startswith(("input", "output")):
                    return f"shape: {op.kind} {_shape(op.inputs)} to {_shape(op.outputs)} outside training"
                return f"{name}: {op.kind} {value:g} outside training"
        return ""


def _macs(batch: Batch) -> Vector:
    """Return the multiply-accumulates of each graph."""
    macs = np.bincount(batch.kernel_graphs, weights=batch.cost("macs")[batch.numbers], minlength=len(batch))
    return macs.astype(np.float64)


def _numbers(op: Op) -> Iterator[tuple[str, float]]:
    yield "arity", len(op.inputs)
    for side, tensors in (("input", op.inputs), ("output", op.outputs)):
        for tensor in tensors[:1]:
            for axis, size in enumerate(tensor.shape):
                yield f"{side}.{len(tensor.shape)}d.{axis}", size  # another rank is another name: never in range
    for key, value in op.attributes:
        if isinstance(value, tuple):
            for position, item in enumerate(value):
                yield f"{key}.{position}", item
        elif _is_number(value):
            yield key, float(value)


def _words(op: Op) -> Iterator[tuple[str, str]]:
    for tensor in (*op.inputs, *op.outputs):
        yield "dtype", tensor.dtype
    for key, value in op.attributes:
        if not isinstance(value, tuple) and not _is_number(value):
            yield key, str(value)


def _is_number(value: Attribute) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shape(tensors: tuple[TensorType, ...]) -> str:
    return "x".join(map(str, tensors[0].shape[1:] or tensors[0].shape)) if tensors else "nothing"
