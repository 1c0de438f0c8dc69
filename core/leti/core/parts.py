"""Parts: what graphs have in common. A network is made of few kinds of part, most of which stand in others too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from leti.core.operators import Op, TensorType


@final
@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A run of operators that reads one value and makes one, with the kernels that they run in; none reaches further.

    Every operator descends from the value that enters, which is number 0 in ``wiring``; ``ops[i]`` makes value
    ``i + 1``. The last operator makes the value that leaves, and every operator leads to it. ``kernels`` are groups of
    operator numbers in the order of their last operators; each operator is in one. A part is compared by identity: what
    places equal parts in many graphs places one object, so that what is found out about it need be found out once.
    """

    inputs: tuple[TensorType]
    ops: tuple[Op, ...]
    wiring: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]


Parts = tuple[tuple[Part, ...], tuple[int, ...]]
"""Parts one after the other, each reading what the one before made, and how many times in succession each stands."""

UNDIVIDED: Parts = ((), ())
"""Of a graph whose parts are not known."""
