"""Kernel: operators that run as one, by name and by what they cost."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.graph import Attribute, Op, TensorType

REMEMBERED: Final = 16_384
"""Most kernels that are remembered."""


@final
@dataclass(frozen=True, slots=True)
class Kernel:
    """Operators executed as one: names at three grains (``kind``, ``family``, ``name``) and what they cost together.

    ``traffic_bytes`` leaves out the tensors that pass from one operator of the kernel to the next. ``ops`` are its
    operators, in order; ``tie`` is a fraction by name, which decides between kernels that cost the same.
    """

    kind: str
    family: str
    name: str
    macs: int
    params: int
    traffic_bytes: int
    ops: tuple[Op, ...] = ()
    tie: float = 0.0

    def __hash__(self) -> int:
        """Hash the name, which says nearly all, and whose hash is remembered."""
        return hash(self.name)

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Kernel:
        """Describe a kernel of these operators, in order."""
        inside = 2 * sum(t.size_bytes for op in ops[:-1] for t in op.outputs)
        name = " + ".join(f"{_family(op)} {_shapes(op)}" for op in ops)
        return cls(
            max(ops, key=lambda op: op.macs).kind,
            " + ".join(_family(op) for op in ops),
            name,
            sum(op.macs for op in ops),
            sum(op.params for op in ops),
            max(sum(op.traffic_bytes for op in ops) - inside, 0),
            tuple(ops),
            (zlib.crc32(name.encode()) >> 12) / 2**20,  # so coarse that sums over a network are exact
        )


def kernel_of(places: int | tuple[int, ...], ops: tuple[Op, ...]) -> Kernel:
    """Return the kernel of these operators, in order, kept once for these ``places`` in memory."""
    found = _KERNELS.get(places)
    if found is None:
        if len(_KERNELS) >= REMEMBERED:
            _KERNELS.clear()
        found = _KERNELS[places] = Kernel.of(ops)  # which keeps its operators where they are
    return found


_KERNELS: Final[dict[int | tuple[int, ...], Kernel]] = {}


def _family(op: Op) -> str:
    attributes = ",".join(f"{key}={_attribute(value)}" for key, value in op.attributes)
    return f"{op.kind}[{attributes}]" if attributes else op.kind


def _attribute(value: Attribute) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shapes(op: Op) -> str:
    return f"{','.join(map(_type, op.inputs))}>{','.join(map(_type, op.outputs))}"


def _type(tensor: TensorType) -> str:
    shape = "x".join(map(str, tensor.shape))
    return shape if tensor.dtype == "float32" else f"{shape}:{tensor.dtype}"
