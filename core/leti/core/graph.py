"""Graph: what runs. Operators in topological order, shapes, costs, and a fingerprint that names the computation.

An :class:`Op` says what one operator does wherever it stands; equal operators are one object. The wiring between them
is kept apart: values are numbered, graph inputs first, then the outputs of each operator in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from leti.core.codec import Json, from_json, read_object, to_json
from leti.core.errors import InvalidGraph, TooLarge
from leti.core.fingerprint import cut, fingerprint
from leti.core.operators import COMMUTATIVE, DTYPE_BITS, Attribute, Op, TensorType, Totals, intern_operator
from leti.core.parts import UNDIVIDED, Parts

__all__ = ["COMMUTATIVE", "DTYPE_BITS", "Attribute", "Encoding", "Graph", "Op", "TensorType", "Totals"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """Where a graph came from a search space: the space, and the choice at each of its positions."""

    space: str
    choices: tuple[int, ...]


LaidOut = tuple[tuple[Op, ...], tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]
"""Operators, their wiring, and their kernels, as a :class:`Graph` holds them."""


class Layout(Protocol):
    """What a graph is put together of, as long as nobody has asked for its operators."""

    def lay_out(self) -> LaidOut:
        """Return the operators."""

    def segments(self) -> bytes:
        """Return the digests of the graph's segments, nothing where they are not known."""

    def totals(self) -> Totals:
        """Return what all operators cost together."""


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
    _totals: Totals | None = field(default=None, init=False, repr=False)
    _parts: Parts = field(default=UNDIVIDED, init=False, repr=False)
    _layout: Layout | None = field(default=None, init=False, repr=False)

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
    ) -> Graph:
        """Return a graph put together of what is known to fit: nothing is checked."""
        graph = cls._bare(len(ops), inputs, outputs, peak_memory_bytes, encoding, UNDIVIDED, None)
        graph._lay_out((ops, wiring, kernels))
        return graph

    @classmethod
    def stacked(
        cls,
        inputs: tuple[TensorType, ...],
        operators: int,
        peak_memory_bytes: int,
        encoding: Encoding | None,
        parts: Parts,
        layout: Layout,
    ) -> Graph:
        """Return a graph of so many operators, each of one output, that ``layout`` lays out when they are asked for.

        It is known to fit, and returns what its last operator makes. ``parts`` make up the whole graph, where they are
        known.
        """
        return cls._bare(operators, inputs, (operators + len(inputs) - 1,), peak_memory_bytes, encoding, parts, layout)

    @classmethod
    def _bare(
        cls,
        operators: int,
        inputs: tuple[TensorType, ...],
        outputs: tuple[int, ...],
        peak_memory_bytes: int,
        encoding: Encoding | None,
        parts: Parts,
        layout: Layout | None,
    ) -> Graph:
        """Return a graph without its operators."""
        if operators > cls.MAX_OPS:
            raise TooLarge(f"has {operators} operators", field="ops", remedy=f"at most {cls.MAX_OPS}")
        graph = object.__new__(cls)
        put = object.__setattr__
        put(graph, "inputs", inputs)
        put(graph, "outputs", outputs)
        put(graph, "peak_memory_bytes", peak_memory_bytes)
        put(graph, "encoding", encoding)
        put(graph, "_fingerprint", "")
        put(graph, "_totals", None)
        put(graph, "_parts", parts)
        put(graph, "_layout", layout)
        return graph

    def _lay_out(self, laid_out: LaidOut) -> None:
        for name, value in zip(_LAID_OUT, laid_out, strict=True):
            object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name):
            """Lay the operators out, where that was put off until somebody asks for them."""
            if name in _LAID_OUT and self._layout is not None:
                self._lay_out(self._layout.lay_out())
            return object.__getattribute__(self, name)

    @property
    def parts(self) -> Parts:
        """Its parts in order and how many times each stands in succession; nothing where they are not known."""
        return self._parts

    @property
    def totals(self) -> Totals:
        """What all operators cost together, added up once."""
        totals = self._totals
        if totals is None:
            totals = Totals.of(self.ops) if self._layout is None else self._layout.totals()
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

    @property
    def value_types(self) -> tuple[TensorType, ...]:
        """The type of each value, by its number."""
        return (*self.inputs, *(output for op in self.ops for output in op.outputs))

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
            segments = b"" if self._layout is None else self._layout.segments()
            if not segments:
                parts = cut(len(self.inputs), self.ops, self.wiring, self.outputs)
                segments = b"".join([part.form(self.ops).name(self.ops) for part in parts])
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
            "inputs": [t.to_json() for t in self.inputs],
            "ops": [
                {
                    "kind": op.kind,
                    "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in op.attributes},
                    "inputs": list(sources),
                    "outputs": [t.to_json() for t in op.outputs],
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
    read = read_object(item, place, required=_OP_FIELDS)
    sources = read["inputs"]
    if not isinstance(sources, list) or any(type(source) is not int for source in sources):
        sources = from_json(tuple[int, ...], sources, f"{place}.inputs")
    for source in sources:
        if not 0 <= source < len(values):
            raise InvalidGraph(f"reads value {source}, which nothing before it makes", field=f"{place}.inputs")
    inputs = tuple([values[source] for source in sources])
    # What was read before need not be looked at again; the text tells 1, 1.0 and true apart.
    written = repr([read[name] for name in _OP_FIELDS if name != "inputs"]), inputs
    op = _READ.get(written)
    if op is None:
        op = _checked_op(read, inputs, place)
        if len(_READ) >= _MOST_READ:
            _READ.clear()
        _READ[written] = op
    return op, tuple(sources)


_LAID_OUT: Final = ("ops", "wiring", "kernels")
_OP_FIELDS: Final = ("kind", "attributes", "inputs", "outputs", "macs", "params", "traffic_bytes")
_MOST_READ: Final = 16_384
_READ: Final[dict[tuple[str, tuple[TensorType, ...]], Op]] = {}


def _checked_op(read: dict[str, Json], inputs: tuple[TensorType, ...], place: str) -> Op:
    attributes = from_json(dict[str, Attribute], read["attributes"], f"{place}.attributes")
    costs = {name: from_json(int, read[name], f"{place}.{name}") for name in ("macs", "params", "traffic_bytes")}
    return intern_operator(
        from_json(str, read["kind"], f"{place}.kind"),
        attributes,
        inputs,
        from_json(tuple[TensorType, ...], read["outputs"], f"{place}.outputs"),
        **costs,
    )
