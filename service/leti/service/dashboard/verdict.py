"""The verdict: which predictor is best, how far from the ceiling, and whether a simpler one does as well.

Two predictors are held against each other on the networks that both have never seen, by the exact sign test (McNemar,
"Note on the sampling error of the difference between correlated proportions", 1947, where what is compared is right or
wrong): a class of isomorphic networks counts once, and only those classes count on which the two differ. As the better
of the two is the best of so many, chance is given so much less room (Bonferroni's correction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from leti.core.measurement import Repeatability
from leti.core.training import PredictorInfo
from leti.service.dashboard.words import share
from leti.service.store.holdouts import SharedHoldout

SIGNIFICANCE: Final = 0.05
"""How likely chance alone may let the better of two look so."""

TOLERANCE: Final = 0.1
"""What counts as right: a prediction that is off by so much at most."""

Z: Final = 1.96
"""Standard errors on each side of an interval that holds 95 %."""


@final
@dataclass(frozen=True, slots=True)
class Contest:
    """Two predictors on classes of networks: on how many the one is ahead, and on how many the other.

    The mean lead of the first lies from ``low`` to ``high`` with 95 % probability (Agresti and Min,
    "Simple improved confidence intervals for comparing matched proportions", 2005, with the variance of leads that are
    shares); ``p`` is how likely so uneven a count is where neither is better.
    """

    ahead: int
    behind: int
    classes: int
    low: float
    high: float
    p: float


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """The best predictor on the holdout and the best in cross-validation, and the simplest that is as good.

    ``simple`` is ``None`` where all simpler ones are worse than the best beyond chance. ``sentences`` say it.
    """

    best: PredictorInfo
    chosen: PredictorInfo
    simple: PredictorInfo | None
    sentences: tuple[str, ...]


def contest(lead: NDArray[np.float64], of_class: NDArray[np.int64]) -> Contest:
    """Return how two predictors compare by the lead ``(n,)`` of the first on each network.

    ``of_class`` ``(n,)`` numbers the isomorphism class of each network, from 0.
    """
    mean = np.bincount(of_class, weights=lead) / np.bincount(of_class)
    ahead, behind, count = int((mean > 0).sum()), int((mean < 0).sum()), len(mean)
    adjusted = count + 2
    middle = float(mean.sum()) / adjusted
    error = math.sqrt(max(float((mean**2).sum()) + 1 - adjusted * middle**2, 0.0)) / adjusted
    p = _chance(ahead, ahead + behind)
    return Contest(ahead, behind, count, middle - Z * error, middle + Z * error, p)


def _chance(ahead: int, of: int) -> float:
    """Return the probability of at least so many heads among ``of`` throws of a fair coin."""
    logarithm = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, of + 1)))])
    heads = np.arange(ahead, of + 1)
    terms = logarithm[of] - logarithm[heads] - logarithm[of - heads] - of * math.log(2)
    return min(float(np.exp(terms).sum()), 1.0)


def judge(
    infos: Sequence[PredictorInfo], shared: SharedHoldout, ceiling: Repeatability | None, ranks: dict[int, int]
) -> Verdict:
    """Return the verdict on predictors of one dataset, the simplest first; ``ranks`` says how simple each is, by id.

    Best on the holdout is who is right most often within ±10 %, of those alike who has the least median error.
    """
    best = max(infos, key=lambda one: (one.metrics.within_10, -one.metrics.mdape, -ranks[one.id]))
    chosen = min(infos, key=lambda one: one.cross_validation_mdape)
    measured = np.asarray(shared.measured_ms)
    _, of_class = np.unique(np.asarray(shared.group), return_inverse=True)
    errors = {key: np.abs(np.asarray(column) / measured - 1) for key, column in shared.latency_ms.items()}
    simpler = [one for one in infos if ranks[one.id] < ranks[best.id]]
    allowed = SIGNIFICANCE / max(len(simpler), 1)
    simple: PredictorInfo | None = None
    sentences: list[str] = []
    for one in simpler:
        right = contest(_lead(errors, best, one), of_class)
        nearer = contest(np.sign(errors[one.id] - errors[best.id]), of_class)
        if right.p < allowed:
            continue
        if nearer.p >= allowed:
            simple = one
            sentences.insert(0, _as_good(one, best, right, nearer))
            break
        if not sentences:
            sentences.append(_as_often(one, best, nearer))
    if simple is None and simpler:
        second = max(simpler, key=lambda one: (one.metrics.within_10, -one.metrics.mdape))
        sentences.insert(0, _better(best, second, contest(_lead(errors, best, second), of_class)))
    if not simpler and len(infos) > 1:
        sentences.append(f"The simplest predictor wins: nothing else is better than {named(best)}.")
    sentences = [*sentences[:1], _best(best), _far(best, ceiling), _chosen(best, chosen), *sentences[1:]]
    return Verdict(best, chosen, simple, tuple(sentences))


def named(info: PredictorInfo) -> str:
    """Return what a predictor is called in a sentence."""
    return info.kind if info.version == 1 else f"{info.kind} {info.version}"


def _lead(errors: Mapping[int, NDArray[np.float64]], one: PredictorInfo, other: PredictorInfo) -> NDArray[np.float64]:
    """Return where the one is right and the other is not, as 1, and where it is the other way round, as -1."""
    return (errors[one.id] <= TOLERANCE).astype(np.float64) - (errors[other.id] <= TOLERANCE)


def _better(best: PredictorInfo, second: PredictorInfo, right: Contest) -> str:
    return (
        f"{named(best)} is better on these networks than every simpler predictor, beyond chance: "
        f"{share(best.metrics.within_10)} within ±10 %, and the next best of those, {named(second)}, "
        f"{share(second.metrics.within_10)} ({100 * right.low:.1f} to {100 * right.high:.1f} points apart, with 95 %)."
    )


def _as_good(one: PredictorInfo, best: PredictorInfo, right: Contest, nearer: Contest) -> str:
    if right.ahead == right.behind == 0:
        said = "both are right on the same ones"
    else:
        said = (
            f"only {named(best)} is right on {right.ahead} of them, only {named(one)} on {right.behind}, which may be "
            f"chance (p = {right.p:.2g}; {named(one)} may be {100 * max(right.high, 0):.1f} points worse at most, with "
            "95 %)"
        )
    return (
        f"{named(one)} is as good as {named(best)}, and simpler: {share(one.metrics.within_10)} against "
        f"{share(best.metrics.within_10)} within ±10 % of {best.metrics.n_test} networks unseen by both; {said}. "
        f"{named(best)} is closer on {nearer.ahead}, {named(one)} on {nearer.behind}: no clear difference either "
        f"(p = {nearer.p:.2g})."
    )


def _as_often(one: PredictorInfo, best: PredictorInfo, nearer: Contest) -> str:
    return (
        f"Where ±10 % is enough, {named(one)} does as well ({share(one.metrics.within_10)} against "
        f"{share(best.metrics.within_10)}), but {named(best)} is closer on {nearer.ahead} of {nearer.classes} (median "
        f"errors {share(best.metrics.mdape)} and {share(one.metrics.mdape)}, p = {nearer.p:.1g})."
    )


def _best(best: PredictorInfo) -> str:
    return (
        f"Best on the holdout is {named(best)}: {share(best.metrics.within_10)} within ±10 %, median error "
        f"{share(best.metrics.mdape)}."
    )


def _chosen(best: PredictorInfo, chosen: PredictorInfo) -> str:
    if chosen.id == best.id:
        return f"In cross-validation {named(best)} is best too ({share(chosen.cross_validation_mdape)})."
    return (
        f"In cross-validation inside the training part, which decides what serves, {named(chosen)} is best: median "
        f"error {share(chosen.cross_validation_mdape)}, {named(best)} {share(best.cross_validation_mdape)}."
    )


def _far(best: PredictorInfo, ceiling: Repeatability | None) -> str:
    if ceiling is None:
        return "How far that is from the best possible is not known: no network was measured more than once."
    parts = []
    for name, key, got in (("±5 %", "0.05", best.metrics.within_5), ("±10 %", "0.1", best.metrics.within_10)):
        away = 100 * (ceiling.within[key] - got)
        where = f"{away:.1f} points below" if away >= 0.05 else "level with" if away > -0.05 else "above"
        parts.append(f"{where} the ceiling of {share(ceiling.within[key])} within {name}")
    return f"That is {' and '.join(parts)}: so well do single measurements repeat."
