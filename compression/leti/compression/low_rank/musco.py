"""MUSCO: compress weakly, fine-tune, and again, until the target is met or no rank changes.

"MUSCO: Multi-Stage Compression of neural networks" (Gusak et al. 2019, algorithm 1). Each stage takes out of the
kernels what the last fine-tuning has made redundant, which one hard compression would not find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, final

from leti.compression.low_rank.applying import LowRank
from leti.compression.low_rank.decompositions import Ranks
from leti.compression.low_rank.rules import Rule
from leti.core.errors import InvalidInput
from leti.core.graph import Graph
from leti.generator.importers import Imported

FineTune = Callable[[Imported], Imported]
"""Trains a network and returns it with other weights."""

Latency = Callable[[Graph], float]
"""Predicts the latency of a graph in ms."""


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What is enough: at most so many multiply-accumulates, at most so many ms, or both; nothing is never enough."""

    macs: int | None = None
    latency_ms: float | None = None

    def met(self, macs: int, latency_ms: float | None) -> bool:
        """Say whether a network of these costs is small enough."""
        limits = [(macs, self.macs), (latency_ms, self.latency_ms)]
        asked = [(cost, limit) for cost, limit in limits if limit is not None]
        return bool(asked) and all(cost is not None and cost <= limit for cost, limit in asked)


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage has made: ``number`` 0 is the network that was given.

    ``ranks`` are those of all operators that are taken apart, by the base's numbers. ``errors`` are those of the
    kernels that this stage compressed, before fine-tuning and relative to what they were. ``latency_ms`` is predicted,
    ``None`` where nothing predicts.
    """

    number: int
    macs: int
    params: int
    latency_ms: float | None = None
    ranks: dict[int, Ranks] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a compression is: plain data, which beside the network's weights is all that going on takes.

    ``end`` is empty while there is something to do; ``next_ranks`` are those that the next stage will give.
    """

    stages: tuple[Stage, ...]
    next_ranks: dict[int, Ranks] = field(default_factory=dict)
    end: Literal["", "target met", "settled", "stages used up"] = ""


def compress_in_stages(
    imported: Imported,
    rule: Rule,
    fine_tune: FineTune,
    target: Target,
    *,
    latency_ms: Latency | None = None,
    most_stages: int = 20,
    base: Graph | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[Progress, Imported]]:
    """Yield how far the compression is, with the network: as it was given, then after each stage.

    The last one says why there are no more: the target is met, ranks have settled, or there were ``most_stages``. To go
    on with what was interrupted, give the ``progress`` and the network of it as ``imported``, and the graph that it all
    began with as ``base``; nothing is yielded for what was. Raises :class:`~leti.core.errors.InvalidInput` for a target
    in ms with nothing to predict them, a fine-tuning that changes the graph, and a network that is not that of the
    progress.
    """
    if target.latency_ms is not None and latency_ms is None:
        raise InvalidInput("nothing predicts latencies", field="target.latency_ms", remedy="give latency_ms")
    if progress is None:
        network = LowRank.of(imported)
        progress = _advanced((), network, rule, target, latency_ms, most_stages)
        yield progress, imported
    else:
        network = LowRank.of(imported, base, progress.stages[-1].ranks)
    while not progress.end:
        network = network.again(progress.next_ranks)
        network = network.with_weights(fine_tune(network.imported))
        progress = _advanced(progress.stages, network, rule, target, latency_ms, most_stages)
        yield progress, network.imported


def _advanced(
    stages: tuple[Stage, ...],
    network: LowRank,
    rule: Rule,
    target: Target,
    latency_ms: Latency | None,
    most_stages: int,
) -> Progress:
    """Return the progress with what a network now is as its last stage."""
    graph = network.imported.graph
    predicted = None if latency_ms is None else float(latency_ms(graph))
    ranks, errors = dict(network.ranks), dict(network.errors)
    stages = (*stages, Stage(len(stages), graph.macs, graph.params, predicted, ranks, errors))
    if target.met(graph.macs, predicted):
        return Progress(stages, end="target met")
    if len(stages) > most_stages:
        return Progress(stages, end="stages used up")
    changed = _changed(network, rule)
    return Progress(stages, changed, "" if changed else "settled")


def _changed(network: LowRank, rule: Rule) -> dict[int, Ranks]:
    found = {layer.number: (rule(layer), layer.ranks) for layer in network.layers()}
    return {number: new for number, (new, now) in found.items() if new not in ((), now)}
