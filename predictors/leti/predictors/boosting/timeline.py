"""Timeline: when the kernels of one graph run, found kernel by kernel.

It says of a graph what :mod:`~leti.predictors.boosting.blocks` say of many at once, to the last bit: the same numbers
are added in the same order. For few graphs that is several times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

from leti.predictors.boosting.blocks import NS_MS, TICK_MS
from leti.predictors.grouping import Outline


@final
class Timeline(NamedTuple):
    """The kernels on the longest ``path`` of each block, in no order, and for how many ns others run ``beside`` each.

    As many ns stand in ``beside`` as the graph has kernels, whole numbers.
    """

    path: list[int]
    beside: list[float]

    @classmethod
    def of(cls, outline: Outline, costs_ms: Sequence[float]) -> Timeline:
        """Run a graph's kernels, each as soon as what it reads is there; costs, one a kernel, must not be negative."""
        blocks = outline.blocks.tolist()
        ends: list[float] = []
        before: list[int] = []
        path: list[int] = []
        beside: list[float] = []
        start = 0
        for i, (read, cost) in enumerate(zip(outline.reads, costs_ms, strict=True)):
            best, longest = -1, 0.0  # what comes into the block is there from the beginning
            for place, source in enumerate(read):
                inside = source >= start
                end = ends[source] if inside else 0.0
                if end > longest or not place:
                    best, longest = source if inside else -1, end
            ends.append(cost + longest)
            before.append(best)
            if i + 1 == len(blocks) or blocks[i + 1] != blocks[i]:
                latest = max(ends[start:])
                here = i
                while ends[here] < latest:  # of those that end last, the last
                    here -= 1
                while here >= 0:
                    path.append(here)
                    here = before[here]
                beside += _beside(ends[start:], costs_ms[start : i + 1]) if i > start else [0.0]
                start = i + 1
        return cls(path, beside)


def _beside(ends: Sequence[float], costs_ms: Sequence[float]) -> list[float]:
    """Return for how many ns others run beside each kernel of a block."""
    ran = [(round((end - cost) / TICK_MS), round(end / TICK_MS)) for end, cost in zip(ends, costs_ms, strict=True)]
    worked: dict[int, int] = {}  # by all kernels up to each event
    running, done, now = 0, 0, 0
    for time, change in sorted([*[(begin, 1) for begin, _ in ran], *[(end, -1) for _, end in ran]]):
        done += running * (time - now)
        worked[time] = done
        running, now = running + change, time
    return [float(round(max(worked[end] - worked[begin] - (end - begin), 0) * (TICK_MS / NS_MS))) for begin, end in ran]
