"""Attributions: what a predictor's latencies are made of over many networks, by what it says of each.

Where a predictor takes a latency apart (:class:`~leti.core.prediction.Explains`), the mean size of a share over
networks that it had not seen tells how much the share matters. For boosted trees this is the mean of the absolute SHAP
values (Lundberg et al., "From Local Explanations to Global Understanding with Explainable AI for Trees", 2020).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.errors import NotPredictable
from leti.core.prediction import Breakdown, Explains
from leti.core.training import PredictorInfo
from leti.service.serving import LoadedPredictors
from leti.service.store import Store

MAX_NETWORKS: Final = 100
"""Networks of the holdout that are taken apart, from the fastest to the slowest."""


@final
@dataclass(frozen=True, slots=True)
class Attribution:
    """What a share of a name adds to a network's latency on average, and how large it is whatever its sign, in ms.

    ``networks`` is in how many it stands.
    """

    name: str
    mean_ms: float
    size_ms: float
    networks: int


@final
@dataclass(frozen=True, slots=True)
class Attributed:
    """Attributions, the largest first, over so many networks, which take ``latency_ms`` on average."""

    networks: int
    latency_ms: float
    items: tuple[Attribution, ...]


@final
class Attributions:
    """Finds what matters to predictors."""

    def __init__(self, store: Store, loaded: LoadedPredictors) -> None:
        self._store = store
        self._loaded = loaded

    def of(self, info: PredictorInfo) -> Attributed:
        """Return what a predictor's latencies are made of on networks of its holdout.

        Raises :class:`NotPredictable` where its kind cannot tell, and :class:`ArtifactError` where its files are gone.
        """
        predictor = self._loaded.get(info.artifact_sha256)
        if not isinstance(predictor, Explains):
            raise NotPredictable(f"the kind {info.kind} cannot say what a latency is made of", field="predictor_id")
        points = self._store.predictors.holdout(info.id)
        step = -(-len(points) // MAX_NETWORKS) or 1
        fingerprints = [point.fingerprint for point in points[::step]]
        return _added_up(predictor.explain(self._store.networks.graphs(fingerprints)))


def _added_up(breakdowns: Sequence[Breakdown]) -> Attributed:
    means: defaultdict[str, float] = defaultdict(float)
    sizes: defaultdict[str, float] = defaultdict(float)
    networks: defaultdict[str, int] = defaultdict(int)
    for breakdown in breakdowns:
        of_one: defaultdict[str, float] = defaultdict(float)
        for share in breakdown.shares:
            of_one[share.name] += share.latency_ms
        for name, latency_ms in of_one.items():
            means[name] += latency_ms
            sizes[name] += abs(latency_ms)
            networks[name] += 1
    count = len(breakdowns)
    items = [Attribution(name, means[name] / count, sizes[name] / count, networks[name]) for name in means]
    latency_ms = sum(breakdown.latency_ms for breakdown in breakdowns) / count if count else 0.0
    return Attributed(count, latency_ms, tuple(sorted(items, key=lambda item: (-item.size_ms, item.name))))
