"""Operators: what one operator does wherever it stands, the tensors that it reads and makes, and what it costs."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from leti.core.codec import Json, to_json
from leti.core.errors import InvalidGraph

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
        return intern_operator(kind, attributes, tuple(inputs), tuple(outputs), macs, params, traffic_bytes)

    def __getitem__(self, name: str) -> Attribute:
        """Return an attribute; raise ``KeyError`` where the operator has none of that name."""
        for key, value in self.attributes:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Attribute) -> Attribute:
        """Return an attribute, or ``default`` where the operator has none of that name."""
        return next((value for key, value in self.attributes if key == name), default)

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an attribute that is a whole number; raise :class:`InvalidGraph` where it is none, or not there."""
        return as_integer(self._said(name, default), f"{self.kind}.{name}")

    def number(self, name: str, default: float | None = None) -> float:
        """Return an attribute that is a number; raise :class:`InvalidGraph` where it is none, or not there."""
        return as_number(self._said(name, default), f"{self.kind}.{name}")

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Return an attribute that is whole numbers; raise :class:`InvalidGraph` where it is not, or not there."""
        return as_integers(self._said(name, default), f"{self.kind}.{name}")

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

    def _said(self, name: str, default: Attribute | None) -> Attribute | None:
        return next((value for key, value in self.attributes if key == name), default)


def as_integer(value: Attribute | None, field: str) -> int:
    """Return an attribute that must be a whole number; raise :class:`InvalidGraph`, naming it, where it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidGraph(f"must be a whole number, not {value!r}", field=field)
    return value


def as_number(value: Attribute | None, field: str) -> float:
    """Return an attribute that must be a number; raise :class:`InvalidGraph`, naming it, where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidGraph(f"must be a number, not {value!r}", field=field)
    return float(value)


def as_integers(value: Attribute | None, field: str) -> tuple[int, ...]:
    """Return an attribute that must be whole numbers; raise :class:`InvalidGraph`, naming it, where it is not."""
    if not isinstance(value, tuple):
        raise InvalidGraph(f"must be whole numbers, not {value!r}", field=field)
    return value


def _sha256_of(data: Json) -> bytes:
    return hashlib.sha256(json.dumps(data, separators=(",", ":")).encode()).digest()


def intern_operator(
    kind: str,
    attributes: Mapping[str, Attribute],
    inputs: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    macs: int,
    params: int,
    traffic_bytes: int,
) -> Op:
    """Return the one operator with these properties."""
    pairs = tuple(sorted(attributes.items()))
    types = tuple([type(value) for _, value in pairs])  # True and 1 are equal, yet not the same attribute
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


class Totals(NamedTuple):
    """What operators cost together."""

    macs: int
    params: int
    traffic_bytes: int
    activation_bytes: int

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Totals:
        """Return the sums over operators."""
        macs = params = traffic_bytes = activation_bytes = 0
        for op in ops:
            macs += op.macs
            params += op.params
            traffic_bytes += op.traffic_bytes
            activation_bytes += op.activation_bytes
        return cls(macs, params, traffic_bytes, activation_bytes)
