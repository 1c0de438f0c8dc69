"""Placing operators of formats whose tensors lie channels first."""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.errors import InvalidGraph
from leti.core.graph import Attribute, TensorType
from leti.generator.importers.draft import Constant, Draft
from leti.generator.orders import channels_first, channels_last, permuted


def place_channels_last(
    draft: Draft,
    kind: str,
    value: int,
    made: TensorType,
    *,
    weights: Sequence[Constant] = (),
    name: str = "",
    **attributes: Attribute,
) -> int:
    """Place an operator that makes ``made`` of a value, both channels first, between two transpositions.

    Tensors of two dimensions or less lie alike: nothing is transposed.
    """
    rank = len(made.shape)
    if rank <= 2:
        return draft.place(kind, (value,), made, weights=weights, name=name, **attributes)
    last = TensorType(permuted(made.shape, channels_last(rank)), made.dtype)
    moved = place_transpose(draft, value, channels_last(rank), name)
    placed = draft.place(kind, (moved,), last, weights=weights, name=name, **attributes)
    return place_transpose(draft, placed, channels_first(rank), name)


def place_transpose(draft: Draft, value: int, perm: Sequence[int], name: str = "") -> int:
    """Place a transposition of a value; raise :class:`InvalidGraph` for an order of other dimensions than it has."""
    source = draft.types[value]
    if sorted(perm) != list(range(len(source.shape))):
        raise InvalidGraph(f"cannot order {len(source.shape)} dimensions as {tuple(perm)!s:.80}", field=name or "perm")
    made = TensorType(permuted(source.shape, perm), source.dtype)
    return draft.place("transpose", (value,), made, name=name, perm=tuple(perm))
