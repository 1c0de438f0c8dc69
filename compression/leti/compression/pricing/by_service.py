"""Prices by a service: what its active predictors say, and what it has measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import final

from typing_extensions import override

from leti.client import LatencyClient
from leti.compression.pricing.prices import Prices
from leti.compression.searching.candidates import Costs
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, NotPredictable
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.patches import Patch
from leti.core.queries import Patches, PredictionColumns, PredictionRequest

with needs("compression"):
    import numpy as np


@final
class ServicePrices(Prices):
    """What a service answers on the platforms that run each precision; a measured latency counts as measured.

    ``coverage`` is that of the intervals, whose upper ends are the upper bounds.
    """

    def __init__(
        self, client: LatencyClient, platform_ids: Mapping[ModelPrecision, str], *, coverage: float = 0.9
    ) -> None:
        self._client = client
        self._platform_ids = dict(platform_ids)
        self._coverage = coverage

    @override
    def price(self, base: Graph, patches: Sequence[Patch]) -> Costs:
        pieces = self._pieces_of(base)
        macs = [pieces.patched(patch, f"patches[{i}]").macs for i, patch in enumerate(patches)]
        latencies = np.empty((2, len(patches)))
        for precision, chosen in self._by_precision(patches).items():
            latencies[:, chosen] = self._ask(base, precision, patches, chosen)
        return Costs.of(latencies[0], latencies[1], macs)

    def _by_precision(self, patches: Sequence[Patch]) -> dict[ModelPrecision, list[int]]:
        """Return which patches are of which precision."""
        found: defaultdict[ModelPrecision, list[int]] = defaultdict(list)
        for i, patch in enumerate(patches):
            precision: ModelPrecision = patch.precision or "float32"
            if precision not in self._platform_ids:
                known = ", ".join(self._platform_ids)
                raise InvalidInput(
                    f"no platform of {precision} is known", field=f"patches[{i}].precision", remedy=f"known: {known}"
                )
            found[precision].append(i)
        return found

    def _ask(
        self, base: Graph, precision: ModelPrecision, patches: Sequence[Patch], chosen: Sequence[int]
    ) -> tuple[Sequence[float | None], Sequence[float | None]]:
        """Return latencies and upper bounds of the chosen patches, all of them of one precision."""
        changes = tuple([patches[i] for i in chosen])
        answer = self._client.predict_columns(
            PredictionRequest(
                (self._platform_ids[precision],),
                patches=Patches({"graph": base.to_json()}, changes),
                coverage=self._coverage,
            )
        )
        _check(answer, chosen)
        (columns,) = answer.platforms
        return columns.latency_ms, columns.high_ms


def _check(answer: PredictionColumns, chosen: Sequence[int]) -> None:
    """Raise the first failure as the error that it is, by the place of its patch; and for what is not known."""
    for failure in answer.failures:
        error = failure.problem.error()
        _, _, inside = error.field.partition(f"patches.changes[{failure.index}]")
        error.field = f"patches[{chosen[failure.index]}]{inside}"
        raise error
    for place, remarks in answer.platforms[0].unknown.items():
        kinds = [remark for remark in remarks if ": " not in remark]  # of what is only out of range there is a remark
        if kinds:
            raise NotPredictable(
                f"{', '.join(kinds)} stood in no network that {answer.platforms[0].predictor} was trained on",
                field=f"patches[{chosen[int(place)]}]",
                remedy="measure networks with it, and train again",
            )
