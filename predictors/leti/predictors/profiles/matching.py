"""Profiles: what a runtime measured of its own kernels becomes the milliseconds of each kernel of a graph.

A runtime names its kernels in its own words and fuses by its own rules, and says of none from which operator it came.
So each kernel of the graph is written down in the runtime's words (:mod:`leti.predictors.profiles.runtime_names`), and
the i-th kernel of a name is the i-th that the runtime ran under it, where a runtime runs what it was given in order.
Where it chooses an order of its own, only those graphs are matched in which no order could put one kernel's time on
another. Where the names do not agree to the last one, nothing is matched.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import Final, final

from leti.core.graph import Graph, Op
from leti.core.measurement import OperatorTime
from leti.predictors.profiles.runtime_names import (
    KernelNames,
    kernels_of,
    litert_kernels,
    litert_name,
    onnxruntime_kernels,
    onnxruntime_name,
)

STRAY: Final = 2.0
"""A run in which a kernel took this many times its median, and a few clock ticks more, says nothing of the kernel."""

_TICKS_US: Final = 3.0
"""Runtimes count whole microseconds: below this a time is as much rounding as it is time."""


@final
@dataclass(frozen=True, slots=True)
class Wording:
    """How one runtime names kernels: ``name`` of a profiled one ("" for none of ours), and those of a graph.

    ``kernels`` gives every way in which a graph may be written down, the likeliest first. ``in_order`` says that the
    runtime runs operators in the order of the file, which is the graph's.
    """

    name: Callable[[str], str]
    kernels: Callable[[Graph], Iterator[KernelNames]]
    in_order: bool


def _litert(graph: Graph) -> Iterator[KernelNames]:
    yield litert_kernels(graph)


def _onnxruntime(graph: Graph) -> Iterator[KernelNames]:
    """Whether a layout is blocked decides on a ``scale``; what is fused into a node does not stand in its name."""
    scales = frozenset(i for i, op in enumerate(graph.ops) if op.kind == "scale")
    for blocked in (frozenset[int](), scales) if scales else (scales,):
        kernels = onnxruntime_kernels(graph, blocked)
        yield tuple(tuple(name.partition("+")[0] for name in names) for names in kernels)


WORDINGS: Final[Mapping[str, Wording]] = MappingProxyType(
    {
        **dict.fromkeys(("litert", "benchmark_model"), Wording(litert_name, _litert, in_order=True)),
        "onnxruntime": Wording(onnxruntime_name, _onnxruntime, in_order=False),
    }
)
"""Runtimes whose profiles can be matched, by the name that a platform gives them."""


def kernel_times_ms(graph: Graph, operator_times: Sequence[OperatorTime], *, runtime: str) -> tuple[float, ...] | None:
    """Return the milliseconds of each kernel of a graph, in the order of their last operators, from a profile of it.

    A kernel that the runtime runs as several is their sum; one that it does not run at all (a reshape) takes 0. The
    graph must be fused as the runtime fuses. ``None`` where the runtime's words are not known, or the profile is not
    one of this graph.
    """
    wording = WORDINGS.get(runtime)
    if wording is None or not operator_times:
        return None
    profiled: list[tuple[str, float]] = []
    for each in operator_times:
        name = wording.name(each.name)
        if name:
            profiled.append((name, typical_us(each.times_us)))
    for kernels in wording.kernels(graph):
        matched = _matched(kernels, profiled)
        if matched is not None:
            return matched if wording.in_order or _has_one_order(graph, kernels) else None
    return None


def typical_us(times_us: Sequence[float]) -> float:
    """Return the mean over the undisturbed runs: a median would round short kernels to whole microseconds."""
    bound = STRAY * statistics.median(times_us) + _TICKS_US
    return statistics.fmean(time for time in times_us if time <= bound)


def _matched(kernels: KernelNames, profiled: Sequence[tuple[str, float]]) -> tuple[float, ...] | None:
    queues: defaultdict[str, deque[float]] = defaultdict(deque)
    for name, time_us in profiled:
        queues[name].append(time_us)
    times_ms: list[float] = []
    for names in kernels:
        try:
            times_ms.append(sum(queues[name].popleft() for name in names) / 1e3)
        except IndexError:  # the graph has more kernels of this name than ran
            return None
    return None if any(queues.values()) else tuple(times_ms)


def _has_one_order(graph: Graph, names: KernelNames) -> bool:
    """Return whether any two kernels of one name are equal, or must run one after the other."""
    kernels = kernels_of(graph)
    kernel_of = {i: number for number, kernel in enumerate(kernels) for i in kernel}
    makers = [-1] * len(graph.inputs) + [kernel_of[i] for i, op in enumerate(graph.ops) for _ in op.outputs]
    before: list[int] = []  # of each kernel, those that must have run, as bits
    named: defaultdict[str, int] = defaultdict(int)  # bits of the kernels so far, by name …
    alike: defaultdict[tuple[str, tuple[Op, ...]], int] = defaultdict(int)  # … and by name and operators
    for number, kernel in enumerate(kernels):
        sources = {makers[value] for i in kernel for value in graph.wiring[i]} - {-1, number}
        before.append(reduce(lambda bits, source: bits | before[source] | 1 << source, sources, 0))
        ops = tuple(graph.ops[i] for i in kernel)
        for name in set(names[number]):
            if named[name] & ~alike[name, ops] & ~before[number]:
                return False
            named[name] |= 1 << number
            alike[name, ops] |= 1 << number
    return True
