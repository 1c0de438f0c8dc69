"""Graph: what runs. Operators in topological order, shapes, costs, and a fingerprint that names the computation.

An :class:`Op` says what one operator does wherever it stands; equal operators are one object. The wiring between them
is kept apart: values are numbered, graph inputs first, then the outputs of each operator in order.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from leti.core.codec import Json, from_json, read_object, to_json
from leti.core.errors import InvalidGraph, TooLarge
from leti.core.fingerprint import fingerprint, segment_digests

Attribute = bool | int | float | str | tuple[int, ...]

DTYPE_BITS = {
    **{"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "complex64": 64, "complex128": 128},
    **{"int64": 64, "int32": 32, "int16": 16, "int8": 8, "int4": 4, "int2": 2},
    **{"uint64": 64, "uint32": 32, "uint16": 16, "uint8": 8, "bool": 8},
}
"""Bits an element of each tensor data type."""

COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum"})
"""Kinds of operator whose inputs have no order."""

_UNKNOWN = "unknown:"


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape (batch first, channels last) and data type of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    size_bytes: int = field(init=False, repr=False, compare=False)
    """Size in bytes; elements of less than a byte are packed."""

    def __post_init__(self) -> None:
        """Check dimensions and data type."""
        if self.dtype not in DTYPE_BITS:
            raise InvalidGraph(f"unknown data type {self.dtype!r}", field="dtype", remedy=", ".join(DTYPE_BITS))
        if any(type(n) is not int or n < 1 for n in self.shape):
            raise InvalidGraph(f"dimensions must be positive whole numbers, not {self.shape!r}", field="shape")
        object.__setattr__(self, "size_bytes", -(-self.elements * DTYPE_BITS[self.dtype] // 8))

    def __hash__(self) -> int:
        """Hash the shape: tensors of one graph seldom differ in the data type alone."""
        return hash(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def to_json(self) -> Json:
        """Return ``{"shape", "dtype"}``."""
        return {"shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Op:
    """An operator without its place: kind, attributes, input and output types, and what it costs.

    ``macs`` counts multiply-accumulates, ``params`` weights and biases, ``traffic_bytes`` what it reads and
    writes (inputs, outputs and parameters) once each. Make operators by :meth:`of`: equal ones are one object.
    """

    kind: str
    attributes: tuple[tuple[str, Attribute], ...]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    macs: int
    params: int
    traffic_bytes: int
    signature: bytes = field(init=False, repr=False, compare=False)
    """What the operator is, costs left out: 8 bytes that tell kinds with their attributes apart, then a SHA-256."""

    activation_bytes: int = field(init=False, repr=False, compare=False)
    """Bytes of inputs and outputs."""

    def __post_init__(self) -> None:
        """Make the signature, and add up the activations."""
        family = [self.kind, to_json(self.attributes)]
        inputs = [to_json(t) for t in self.inputs]
        if self.is_commutative:
            inputs.sort(key=json.dumps)
        identity = [*family, inputs, to_json(self.outputs)]
        object.__setattr__(self, "signature", _sha256_of(family)[:8] + _sha256_of(identity))
        object.__setattr__(self, "activation_bytes", sum([t.size_bytes for t in (*self.inputs, *self.outputs)]))

    def __hash__(self) -> int:
        """Hash the signature."""
        return hash(self.signature)

    @classmethod
    def of(
        cls,
        kind: str,
        inputs: Sequence[TensorType],
        outputs: Sequence[TensorType],
        *,
        macs: int = 0,
        params: int = 0,
        traffic_bytes: int = 0,
        **attributes: Attribute,
    ) -> Op:
        """Return the one operator with these properties."""
        return _op(kind, attributes, tuple(inputs), tuple(outputs), macs, params, traffic_bytes)

    def __getitem__(self, name: str) -> Attribute:
        """Return an attribute; raise ``KeyError`` where the operator has none of that name."""
        for key, value in self.attributes:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Attribute) -> Attribute:
        """Return an attribute, or ``default`` where the operator has none of that name."""
        return next((value for key, value in self.attributes if key == name), default)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and biases that are read."""
        return self.traffic_bytes - self.activation_bytes

    @property
    def is_commutative(self) -> bool:
        """Whether the inputs have no order."""
        return self.kind in COMMUTATIVE

    @property
    def is_unknown(self) -> bool:
        """Whether an importer kept this operator without knowing it (``unknown:NAME``)."""
        return self.kind.startswith(_UNKNOWN)


def _sha256_of(data: Json) -> bytes:
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).digest()


def _op(
    kind: str,
    attributes: Mapping[str, Attribute],
    inputs: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    macs: int,
    params: int,
    traffic_bytes: int,
) -> Op:
    pairs = tuple(sorted(attributes.items()))
    types = tuple(type(value) for _, value in pairs)  # True and 1 are equal, yet not the same attribute
    return _intern(kind, pairs, inputs, outputs, macs, params, traffic_bytes, types)


@functools.lru_cache(maxsize=65_536)
def _intern(
    kind: str,
    attributes: tuple[tuple[str, Attribute], ...],
    inputs: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    macs: int,
    params: int,
    traffic_bytes: int,
    types: tuple[type, ...],
) -> Op:
    return Op(kind, attributes, inputs, outputs, macs, params, traffic_bytes)


@dataclass(frozen=True, slots=True)
class Encoding:
    """Where a graph came from a search space: the space, and the choice at each of its positions."""

    space: str
    choices: tuple[int, ...]


class Totals(NamedTuple):
    """What operators cost together."""

    macs: int
    params: int
    traffic_bytes: int
    activation_bytes: int

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Totals:
        """Return the sums over operators."""
        return cls(
            sum([op.macs for op in ops]),
            sum([op.params for op in ops]),
            sum([op.traffic_bytes for op in ops]),
            sum([op.activation_bytes for op in ops]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Operators in topological order, and their wiring.

    ``wiring[i]`` lists the values that operator ``i`` reads: graph inputs have the numbers ``0 … len(inputs)-1``, then
    the outputs of each operator follow in order. ``outputs`` are the values that the graph returns. Outside its
    identity stand ``peak_memory_bytes`` (activations alive at once, in this order), ``kernels`` (groups of operators
    that a runtime executes as one, each a tuple of operator numbers) and the ``encoding`` of the space it came from.

    Two graphs are equal where their fingerprints are. Raises :class:`InvalidGraph` where the parts do not fit.
    """

    inputs: tuple[TensorType, ...]
    ops: tuple[Op, ...]
    wiring: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    peak_memory_bytes: int = 0
    kernels: tuple[tuple[int, ...], ...] = ()
    encoding: Encoding | None = None
    _fingerprint: str = field(default="", init=False, repr=False)
    _segments: bytes = field(default=b"", init=False, repr=False)
    _totals: Totals | None = field(default=None, init=False, repr=False)

    MAX_OPS: ClassVar[int] = 20_000

    def __post_init__(self) -> None:
        """Check that operators are in topological order and read what they say they read."""
        if len(self.ops) > self.MAX_OPS:
            raise TooLarge(f"has {len(self.ops)} operators", field="ops", remedy=f"at most {self.MAX_OPS}")
        if len(self.ops) != len(self.wiring):
            raise InvalidGraph(f"has {len(self.wiring)} entries for {len(self.ops)} operators", field="wiring")
        values: list[TensorType] = list(self.inputs)
        for i, (op, sources) in enumerate(zip(self.ops, self.wiring, strict=True)):
            if len(sources) != len(op.inputs):
                raise InvalidGraph(f"reads {len(sources)} values, {op.kind} takes {len(op.inputs)}", field=f"ops[{i}]")
            for source, expected in zip(sources, op.inputs, strict=True):
                if not 0 <= source < len(values):
                    raise InvalidGraph(f"reads value {source}, which nothing before it makes", field=f"ops[{i}]")
                if values[source] != expected:
                    raise InvalidGraph(f"reads {values[source]}, {op.kind} takes {expected}", field=f"ops[{i}]")
            values.extend(op.outputs)
        if not self.outputs or any(not 0 <= out < len(values) for out in self.outputs):
            raise InvalidGraph("must name values that the graph makes", field="outputs")
        grouped = [i for kernel in self.kernels for i in kernel]
        if len(set(grouped)) != len(grouped) or any(not 0 <= i < len(self.ops) for i in grouped):
            raise InvalidGraph("must group each operator at most once", field="kernels")

    @classmethod
    def assembled(
        cls,
        inputs: tuple[TensorType, ...],
        ops: tuple[Op, ...],
        wiring: tuple[tuple[int, ...], ...],
        outputs: tuple[int, ...],
        peak_memory_bytes: int,
        kernels: tuple[tuple[int, ...], ...],
        encoding: Encoding | None,
        segments: bytes,
        totals: Totals,
    ) -> Graph:
        """Return a graph put together of parts that are known to fit: nothing is checked.

        ``segments`` are the parts' :func:`~leti.core.fingerprint.segment_digests`, ``totals`` their sums.
        """
        if len(ops) > cls.MAX_OPS:
            raise TooLarge(f"has {len(ops)} operators", field="ops", remedy=f"at most {cls.MAX_OPS}")
        graph = object.__new__(cls)
        put = object.__setattr__
        put(graph, "inputs", inputs)
        put(graph, "ops", ops)
        put(graph, "wiring", wiring)
        put(graph, "outputs", outputs)
        put(graph, "peak_memory_bytes", peak_memory_bytes)
        put(graph, "kernels", kernels)
        put(graph, "encoding", encoding)
        put(graph, "_fingerprint", "")
        put(graph, "_segments", segments)
        put(graph, "_totals", totals)
        return graph

    @property
    def totals(self) -> Totals:
        """What all operators cost together, added up once."""
        totals = self._totals
        if totals is None:
            totals = Totals.of(self.ops)
            object.__setattr__(self, "_totals", totals)
        return totals

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole graph (one multiplication and one addition count as one)."""
        return self.totals.macs

    @property
    def params(self) -> int:
        """Number of weights and biases."""
        return self.totals.params

    @property
    def traffic_bytes(self) -> int:
        """Bytes read and written by all operators, each tensor once an operator."""
        return self.totals.traffic_bytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights and biases that are read."""
        return self.totals.traffic_bytes - self.totals.activation_bytes

    @property
    def batch(self) -> int:
        """Size of the first dimension of the first input."""
        return self.inputs[0].shape[0] if self.inputs and self.inputs[0].shape else 1

    @property
    def unknown(self) -> tuple[str, ...]:
        """Kinds of operator that an importer did not know, sorted."""
        return tuple(sorted({op.kind for op in self.ops if op.is_unknown}))

    def first_values(self) -> tuple[int, ...]:
        """Return the number of each operator's first output value, length ``len(ops)``."""
        numbers, next_value = [], len(self.inputs)
        for op in self.ops:
            numbers.append(next_value)
            next_value += len(op.outputs)
        return tuple(numbers)

    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hex digits) of the computation, free of node order and names.

        See :mod:`leti.core.fingerprint`. As with every Weisfeiler-Leman test, contrived regular wirings of equal
        operators may share a fingerprint; no two networks of the shipped search spaces do.
        """
        if not self._fingerprint:
            segments = self._segments or segment_digests(len(self.inputs), self.ops, self.wiring, self.outputs)
            found = fingerprint([(t.shape, t.dtype) for t in self.inputs], segments)
            object.__setattr__(self, "_fingerprint", found)
        return self._fingerprint

    def __eq__(self, other: object) -> bool:
        """Compare fingerprints."""
        return isinstance(other, Graph) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        """Hash the fingerprint."""
        return hash(self.fingerprint())

    def to_json(self) -> Json:
        """Return the one JSON form of a graph."""
        return {
            "inputs": to_json(self.inputs),
            "ops": [
                {
                    "kind": op.kind,
                    "attributes": {key: to_json(value) for key, value in op.attributes},
                    "inputs": list(sources),
                    "outputs": to_json(op.outputs),
                    "macs": op.macs,
                    "params": op.params,
                    "traffic_bytes": op.traffic_bytes,
                }
                for op, sources in zip(self.ops, self.wiring, strict=True)
            ],
            "outputs": list(self.outputs),
            "peak_memory_bytes": self.peak_memory_bytes,
            "kernels": to_json(self.kernels),
            "encoding": to_json(self.encoding),
        }

    @classmethod
    def from_json(cls, data: Json, where: str = "graph") -> Graph:
        """Read what :meth:`to_json` writes; raise :class:`~leti.core.errors.InvalidInput` naming the place."""
        read = read_object(
            data, where, required=("inputs", "ops", "outputs"), optional=("peak_memory_bytes", "kernels", "encoding")
        )
        values: list[TensorType] = list(from_json(tuple[TensorType, ...], read["inputs"], f"{where}.inputs"))
        inputs = tuple(values)
        ops, wiring = [], []
        if not isinstance(read["ops"], list):
            raise InvalidGraph("must be an array", field=f"{where}.ops")
        for i, item in enumerate(read["ops"]):
            place = f"{where}.ops[{i}]"
            op, sources = _read_op(item, values, place)
            ops.append(op)
            wiring.append(sources)
            values.extend(op.outputs)
        return cls(
            inputs,
            tuple(ops),
            tuple(wiring),
            from_json(tuple[int, ...], read["outputs"], f"{where}.outputs"),
            from_json(int, read.get("peak_memory_bytes", 0), f"{where}.peak_memory_bytes"),
            from_json(tuple[tuple[int, ...], ...], read.get("kernels", []), f"{where}.kernels"),
            from_json(Encoding, read["encoding"], f"{where}.encoding") if read.get("encoding") else None,
        )


def _read_op(item: Json, values: Sequence[TensorType], place: str) -> tuple[Op, tuple[int, ...]]:
    names = ("kind", "attributes", "inputs", "outputs", "macs", "params", "traffic_bytes")
    read = read_object(item, place, required=names)
    sources = from_json(tuple[int, ...], read["inputs"], f"{place}.inputs")
    for source in sources:
        if not 0 <= source < len(values):
            raise InvalidGraph(f"reads value {source}, which nothing before it makes", field=f"{place}.inputs")
    attributes = from_json(dict[str, Attribute], read["attributes"], f"{place}.attributes")
    costs = {name: from_json(int, read[name], f"{place}.{name}") for name in ("macs", "params", "traffic_bytes")}
    op = _op(
        from_json(str, read["kind"], f"{place}.kind"),
        attributes,
        tuple(values[source] for source in sources),
        from_json(tuple[TensorType, ...], read["outputs"], f"{place}.outputs"),
        **costs,
    )
    return op, sources
