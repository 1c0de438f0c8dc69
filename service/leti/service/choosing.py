"""Choosing: which networks of a search space a campaign measures, where it does not leave that to chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.farm import Sample, Sampling
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.spaces import SearchSpace, get_space
from leti.service.catalogue import name_network
from leti.service.sources import Sources
from leti.service.store import KnownNetwork, Store

if TYPE_CHECKING:
    from leti.core.graph import Graph

CANDIDATES: Final = 20
"""Networks that are drawn for each that is chosen …"""

MAX_CANDIDATES: Final = 2_000
"""… but no more than this, unless more are to be chosen."""

MAX_PREDICTORS: Final = 16
MAX_MEASURED: Final = 1_000
"""Networks measured on the platform that a choice keeps away from, the first ones."""


@final
class Chooser:
    """Draws the networks of a campaign's samples, at random or chosen among many."""

    def __init__(self, store: Store, sources: Sources) -> None:
        self._store = store
        self._sources = sources

    def choose(
        self, sample: Sample, sampling: Sampling, platform_id: str, zero: Zero, precision: ModelPrecision
    ) -> tuple[list[KnownNetwork], str]:
        """Return the networks of a sample, and why they were chosen otherwise than asked for, if they were.

        ``diverse`` chooses networks that stand for many others; ``active`` those on which the active predictors of all
        platforms of this precision disagree, away from what is measured on this platform.
        """
        space = get_space(sample.space)
        config = sample.config or space.default_config
        if sampling == "random":
            specs: Sequence[NetworkSpec] = space.sample(sample.count, sample.seed, config)
            return [name_network(spec, zero, precision) for spec in specs], ""
        from leti.predictors.sampling import choose  # brings numpy

        drawn = [name_network(spec, zero, precision) for spec in _draw(space, sample)]
        candidates = [known.graph for known in drawn]
        measured = self._measured(platform_id)
        told = self._sources.active(precision, most=MAX_PREDICTORS) if sampling == "active" else None
        predictors = tuple(told.predictors.values()) if told else ()
        lacking = "; ".join(told.remarks) if told else ""
        known = {graph.fingerprint() for graph in measured}
        if len({graph.fingerprint() for graph in candidates} - known) < sample.count:
            measured = ()  # a small space of which most is measured
        try:
            picked = choose(
                candidates,
                sample.count,
                how="disagreement" if predictors else "diverse",
                seed=sample.seed,
                measured=measured,
                predictors=predictors,
            )
        except InvalidInput as error:
            error.field = "count"
            raise
        fell_back = sampling == "active" and not predictors
        remark = f"chosen by diversity: {lacking or 'no platform has an active predictor'}" if fell_back else lacking
        return [drawn[i] for i in picked], remark

    def _measured(self, platform_id: str) -> tuple[Graph, ...]:
        page = self._store.measurements.page(
            platform_id=platform_id, campaign_id=None, fingerprint=None, cursor=0, limit=MAX_MEASURED
        )
        rows = page.items
        return tuple(self._store.networks.graphs(list(dict.fromkeys(row.fingerprint for row in rows))))


def _draw(space: SearchSpace, sample: Sample) -> Sequence[NetworkSpec]:
    """Return many networks to choose from, at least as many as are to be chosen."""
    most = max(sample.count, min(CANDIDATES * sample.count, MAX_CANDIDATES))
    config = sample.config or space.default_config
    while most > sample.count:
        try:
            return space.sample(most, sample.seed, config)
        except InvalidInput:  # the space has not that many
            most = max(most // 2, sample.count)
    return space.sample(sample.count, sample.seed, config)
