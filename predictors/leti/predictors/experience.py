"""Experience: which operators and shapes training saw, so that a prediction can list what is outside.

A predictor that is asked for an operator it never met still answers, but says so: each remark names a kind, a shape or
a cost that no network of the training had. An empty list means that all of it lies inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

from leti.core.extras import needs
from leti.core.graph import Attribute, Op, TensorType
from leti.core.parts import Part
from leti.predictors.batch import Batch, Ints
from leti.predictors.division import Memory

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


REMEMBERED_OPS = 16_384
"""Operators of which it is remembered what there is to remark."""

_NOTHING: Final[frozenset[str]] = frozenset()


@final
@dataclass(frozen=True)
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
        macs = batch.macs
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
        listed: dict[int, set[str]] = {}
        (known, divided), (others, whole) = batch.sorted_out
        if len(known):
            division = divided.division
            of_parts = self._of_parts.look_up(division.parts, self._describe)
            if any(of_parts):
                strange = np.array(list(map(bool, of_parts)))[division.codes]
                for run in strange.nonzero()[0].tolist():
                    graph = int(known[np.searchsorted(division.starts, run, side="right") - 1])
                    listed.setdefault(graph, set()).update(of_parts[division.codes[run]])
        if len(others):
            for place in self._strange(whole).tolist():
                graph = int(others[whole.op_graphs[place]])
                listed.setdefault(graph, set()).add(self._remark_on(whole.ops[whole.codes[place]]))
        macs = batch.macs
        low, high = self.macs
        for graph in ((macs < low / SLACK) | (macs > high * SLACK)).nonzero()[0].tolist():
            text = f"macs: {macs[graph]:.3g} outside training, {low:.3g} to {high:.3g}"
            listed.setdefault(graph, set()).add(text)
        remarks: list[tuple[str, ...]] = [()] * len(batch)
        for graph, found in listed.items():
            remarks[graph] = tuple(sorted(found))
        return tuple(remarks)

    @cached_property
    def _of_parts(self) -> Memory[Part, frozenset[str]]:
        """Remarks on parts of graphs."""
        return Memory()

    def _describe(self, parts: Sequence[Part]) -> list[frozenset[str]]:
        plain = self._plain
        found = []
        for part in parts:
            if all(map(plain.__contains__, map(id, part.ops))):
                found.append(_NOTHING)
                continue
            found.append(frozenset(filter(None, map(self._remark_on, part.ops))))
            if not found[-1] and len(plain) < REMEMBERED_OPS:
                plain.update((id(op), op) for op in part.ops)
        return found

    @cached_property
    def _plain(self) -> dict[int, Op]:
        """Operators of parts that there is nothing to remark on, by where they are in memory, which stays so."""
        return {}

    def _strange(self, batch: Batch) -> Ints:
        """Return the places of operators that there is a remark on."""
        return np.flatnonzero(np.array([bool(self._remark_on(op)) for op in batch.ops], dtype=bool)[batch.codes])

    @cached_property
    def _remarked(self) -> dict[Op, str]:
        """Remarks on operators that were asked for."""
        return {}

    def _remark_on(self, op: Op) -> str:
        remarked = self._remarked
        remark = remarked.get(op)
        if remark is None:
            if len(remarked) >= REMEMBERED_OPS:
                remarked.clear()
            remark = remarked[op] = self._remark(op)
        return remark

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
