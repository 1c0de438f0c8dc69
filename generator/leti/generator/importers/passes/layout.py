"""One layout, channels last: transposes are carried along lazily and cancel where they meet.

Readers of channels-first formats put a transpose before each convolution and one after it; exporters of TensorFlow
models leave theirs in the file. A value of the old draft is held here as a value of the new one in some *order*: axis
``k`` of the new value is axis ``order[k]`` of the old. A transpose then costs nothing, operators that work in any order
pass it on, and only where an operator must have its axes as they are named is one transpose made, once a value.

Where operands come in different orders, the order is taken that moves the fewest elements there and then: a greedy
choice, led by what is asked of the result further down (:func:`find_wanted`), not a search for the optimum. A draft in
which that saves no transpose is left as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet

from leti.generator.importers.draft import Draft, Node
from leti.generator.importers.passes.layout_rules import (
    ASK_NOTHING,
    FLAT,
    KEEPS_CHANNELS,
    PASSES_ON,
    RULES,
    make_logical,
    order_before,
)
from leti.generator.importers.passes.relayout import Relayout
from leti.generator.importers.passes.simplify import remove_dead
from leti.generator.orders import Order, identity, permuted


def cancel_transposes(draft: Draft, *, borders: bool) -> Draft:
    """Return the draft with as few transposes as a greedy choice of layouts leaves.

    With ``borders``, inputs that are only read channels last become channels last, and so do outputs that are made so:
    the transposes at the border are no part of the network.
    """
    if not any(node.kind == "transpose" for node in draft.nodes):
        return draft
    only_dense = find_only_dense(draft)
    layout = Relayout(draft, *find_wanted(draft, only_dense), only_dense, borders=borders)
    for node in draft.nodes:
        RULES.get(node.kind, make_logical)(layout, node)
    new = layout.finish()
    return new if _moves(remove_dead(new)) < _moves(remove_dead(draft)) else draft


def _moves(draft: Draft) -> tuple[int, int]:
    """Return the number of transposes, and of the elements that they move."""
    sizes = [draft.types[node.outputs[0]].elements for node in draft.nodes if node.kind == "transpose"]
    return len(sizes), sum(sizes)


def find_wanted(draft: Draft, only_dense: AbstractSet[int]) -> tuple[list[Order | None], set[int]]:
    """Return the order that most readers of each value ask for, and the inputs of which all ask for the same.

    A transpose asks for the order in which its result would need no more; an operator that works in any order asks for
    what is asked of its result, and so does a reshape where that can be; a reduction, an output of the network and what
    fully connected layers alone read ask for nothing.
    """
    votes: list[Counter[Order]] = [Counter() for _ in draft.types]
    wanted: list[Order | None] = [None] * len(draft.types)
    for node in reversed(draft.nodes):
        for value in node.outputs:
            wanted[value] = _most_asked(votes[value])
        for value in node.inputs:
            order = None if node.outputs[0] in only_dense else _asked(draft, node, value, wanted[node.outputs[0]])
            if order is not None:
                votes[value][order] += 1
    for value in draft.inputs:
        wanted[value] = _most_asked(votes[value])
    return wanted, {value for value in draft.inputs if len(votes[value]) == 1}


def _most_asked(votes: Counter[Order]) -> Order | None:
    return max(votes, key=lambda order: (votes[order], order), default=None)


def _asked(draft: Draft, node: Node, value: int, asked: Order | None) -> Order | None:
    shape = draft.types[value].shape
    rank = len(shape)
    if node.kind == "transpose":
        return None if asked is None else permuted(node.integers("perm"), asked)
    if node.kind == "reshape":
        return None if asked is None else order_before(shape, draft.types[node.outputs[0]].shape, asked)
    if node.kind in ASK_NOTHING:
        return None
    if node.kind in PASSES_ON:
        return asked if asked is not None and len(asked) == rank else None
    if asked is not None and node.kind in KEEPS_CHANNELS and len(asked) == rank and KEEPS_CHANNELS[node.kind](asked):
        return asked
    return identity(rank)


def find_only_dense(draft: Draft) -> set[int]:
    """Return the values that only fully connected layers read, if need be through operators on each element."""
    found = set(range(len(draft.types))) - set(draft.outputs)
    for node in reversed(draft.nodes):
        passes = node.kind in FLAT and len(node.inputs) == 1 and node.outputs[0] in found
        if node.kind != "fully_connected" and not passes:
            found.difference_update(node.inputs)
    return found
