"""Liveness: which operators of a module are left, and what is alive while they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

TAKES_CONSTANTS: Final = frozenset({"conv2d", "depthwise_conv2d", "fully_connected"})
"""Kinds that take a constant after them into their weights."""

FOLDS: Final = frozenset({"scale", "shift", "zero"})
"""Kinds of operator with such a constant."""

Rows = Sequence[tuple[int, ...]]


def survivors(
    kinds: Sequence[str], wiring: Rows, output: int, *, folds: bool = False
) -> tuple[list[int], tuple[tuple[int, ...], ...], int]:
    """Return the operators that are left, their wiring numbered anew, and the output's number.

    Constants are folded into convolutions before them that nothing else reads, and what does not reach the output is
    dropped. Value 0 is the input, value ``i + 1`` what operator ``i`` makes; ``folds`` is as in :meth:`Module.of`.
    """
    stands_for = _folded(kinds, wiring, output, folds=folds)
    alive = _alive(wiring, stands_for[output], stands_for)
    if len(alive) == len(kinds):
        return alive, tuple(wiring), output
    number, kept, rewired = {0: 0}, [], []
    for i in alive:
        kept.append(i)
        rewired.append(tuple([number[stands_for[source]] for source in wiring[i]]))
        number[i + 1] = len(kept)
    return kept, tuple(rewired), number[stands_for[output]]


def alive_bytes(sizes: Sequence[int], wiring: Rows, output: int, kernels: Rows) -> list[tuple[int, int]]:
    """Return, for each kernel in turn, what is alive before it and while it runs, as peak memory counts it.

    ``sizes`` are those of the values: the input's, then what each operator makes; all reach the output.
    """
    made_in, last_read = [-1] * len(sizes), [-1] * len(sizes)
    for step, kernel in enumerate(kernels):
        for i in kernel:
            made_in[i + 1] = step
            for value in wiring[i]:
                last_read[value] = step
    last_read[output] = len(kernels)
    stored, freed = [0] * len(kernels), [0] * (len(kernels) + 1)
    for value, (made, last) in enumerate(zip(made_in, last_read, strict=True)):
        if 0 <= last != made:  # what a kernel makes and reads itself is never stored
            freed[last] += sizes[value]
            if value:
                stored[made] += sizes[value]
    now, steps = sizes[0], []
    for more, less in zip(stored, freed, strict=False):
        steps.append((now, now + more))
        now += more - less
    return steps


def _alive(wiring: Rows, output: int, stands_for: Sequence[int]) -> list[int]:
    """Return the numbers of the operators that reach ``output``, in order."""
    wanted = [False] * (output + 1)
    wanted[output] = True
    found = []
    for i in range(output - 1, -1, -1):
        if wanted[i + 1]:
            found.append(i)
            for source in wiring[i]:
                wanted[stands_for[source]] = True
    found.reverse()
    return found


def _folded(kinds: Sequence[str], wiring: Rows, output: int, *, folds: bool) -> list[int]:
    """Return for each value the value that it becomes once constants are folded into convolutions before them."""
    stands_for = list(range(len(kinds) + 1))
    if FOLDS.isdisjoint(kinds):
        return stands_for
    alive = _alive(wiring, output, stands_for)
    readers = [0] * len(stands_for)
    readers[output] += 1
    for i in alive:
        for source in wiring[i]:
            readers[source] += 1
    for i in alive:
        if kinds[i] in FOLDS:
            (source,) = wiring[i]
            target = stands_for[source]
            if readers[source] == 1 and (folds if target == 0 else kinds[target - 1] in TAKES_CONSTANTS):
                stands_for[i + 1] = target
    return stands_for
