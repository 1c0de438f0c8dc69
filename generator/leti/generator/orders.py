"""Orders of axes: axis ``k`` of a tensor that is held in an order is axis ``order[k]`` of the one that is meant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from leti.generator.cost import Shape

Order = tuple[int, ...]


def identity(rank: int) -> Order:
    """Return the order in which nothing is moved."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Return the order in which a channels-first tensor is held channels last."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


def channels_first(rank: int) -> Order:
    """Return the order in which a channels-last tensor is held channels first."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else identity(rank)


def inverse(order: Sequence[int]) -> Order:
    """Return for each axis where the order has it."""
    places = [0] * len(order)
    for place, axis in enumerate(order):
        places[axis] = place
    return tuple(places)


def permuted(shape: Shape, order: Sequence[int]) -> Shape:
    """Return a shape, or other whole numbers of which each axis has one, with the axes in an order."""
    return tuple(shape[axis] for axis in order)


def widened(order: Order, rank: int) -> Order:
    """Return the order of a tensor that gets axes of one element in front until it has a rank."""
    missing = rank - len(order)
    return (*range(missing), *(axis + missing for axis in order)) if missing else order


def is_free(shape: Shape, perm: Order) -> bool:
    """Return whether a transpose of a tensor moves no element, only axes of one element."""
    moved = [axis for axis in perm if shape[axis] != 1]
    return all(a < b for a, b in pairwise(moved))


def blocks_of(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Return the axes that a reshape takes together and what it makes of them, axes of one element left out.

    Both lists of a block hold axes in order and count the same elements; no block can be divided.
    """
    old = [axis for axis, size in enumerate(before) if size > 1]
    new = [axis for axis, size in enumerate(after) if size > 1]
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old):
        block = ([old[i]], [new[j]])
        left, right = before[old[i]], after[new[j]]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                block[0].append(old[i])
                left, i = left * before[old[i]], i + 1
            else:
                block[1].append(new[j])
                right, j = right * after[new[j]], j + 1
        blocks.append(block)
    return blocks
