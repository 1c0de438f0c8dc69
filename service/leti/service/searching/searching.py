"""Searching: the parts that answer searches, made together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from leti.service.searching.attributions import Attributions
from leti.service.searching.breakdowns import Explainer
from leti.service.searching.drift import Scorer
from leti.service.searching.filtering import Filter
from leti.service.searching.kernel_prices import KernelPrices
from leti.service.searching.position_tables import PositionTables
from leti.service.searching.slabs import Slabs
from leti.service.searching.widths import Staircase

if TYPE_CHECKING:
    from leti.service.answering import Answerer
    from leti.service.serving import LoadedPredictors
    from leti.service.settings import GraphLimits
    from leti.service.store import Store


@final
@dataclass(frozen=True, slots=True)
class Searching:
    """What answers searches."""

    filter: Filter
    explainer: Explainer
    position_tables: PositionTables
    kernel_prices: KernelPrices
    scorer: Scorer
    attributions: Attributions
    slabs: Slabs
    staircase: Staircase

    @classmethod
    def over(cls, store: Store, loaded: LoadedPredictors, answerer: Answerer, graphs: GraphLimits) -> Searching:
        """Return the parts over a store, predictors and what answers for latencies; they take graphs up to a size."""
        return cls(
            Filter(store, answerer),
            Explainer(store, loaded, answerer, graphs),
            PositionTables(store, loaded),
            KernelPrices(store, loaded),
            Scorer(store),
            Attributions(store, loaded),
            Slabs(store, loaded),
            Staircase(answerer),
        )
