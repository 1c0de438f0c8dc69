"""The champion: whether what was just trained takes the place of the predictor that serves.

The frozen holdout is not looked at. Every error here is of a network of the new training part, predicted by a model
that had not seen any network of its isomorphism class: out of fold in the grouped cross-validation of the new
training, or by the champion itself, where its own training part did not hold the class. Who is to be better must be so
beyond chance: a one-sided Wilcoxon signed-rank test (Wilcoxon, "Individual Comparisons by Ranking Methods", 1945) of
the differences between errors, the mean of each class for one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from leti.core.extras import needs

with needs("boosting"):
    import numpy as np
    from numpy.typing import NDArray
    from scipy import stats

Errors = NDArray[np.float64]

SIGNIFICANCE: Final = 0.05
"""How likely chance alone may let the better of two look so."""


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind of the new predictors that serves from now on, ``None`` where the champion stays; and why."""

    kind: str | None
    reason: str


def decide(
    errors: Mapping[str, Errors],
    groups: Sequence[str],
    champion: str,
    *,
    known: Collection[str],
    own: Errors | None,
) -> Verdict:
    """Return who serves: the champion, its kind trained anew, or a challenger of another kind.

    ``errors`` are absolute relative errors ``(n,)`` out of fold of the kinds that were trained, ``groups`` the classes
    of these networks. The champion is of the kind ``champion`` and was trained on the classes ``known``; ``own`` are
    its errors ``(n,)``, of which those on known classes are not used, ``None`` where it cannot predict these networks.

    First the kind: the best of the others takes the place of the champion's own if it is better on all networks. Then
    the model: more measurements of the same kind are taken to be better, so that the new model serves, unless the
    champion is better than it on networks that are new to both; without any such network nothing was learnt, and the
    champion stays unless its kind was beaten.
    """
    medians = {kind: float(np.median(found)) for kind, found in errors.items()}
    best = min(medians, key=lambda kind: medians[kind])
    fresh = np.asarray([group not in known for group in groups])
    kind, why = best, ""
    if champion in errors and best != champion:
        chance = SIGNIFICANCE / (len(errors) - 1)  # Bonferroni's: it is the best of so many challengers
        p = chance_of(errors[best], errors[champion], groups)
        told = f"{_percent(medians[best])} against {_percent(medians[champion])} in cross-validation, p = {p:.2g}"
        if p < chance:
            why = f"{best} is better than the kind that served, {champion}: {told}"
        else:
            kind, why = champion, f"{best} is not clearly better than the kind that serves, {champion}: {told}"
    beaten = kind != champion and champion in errors
    if own is None:
        return Verdict(kind, why or f"the {champion} that served cannot predict these networks")
    if not fresh.any():
        if beaten:
            return Verdict(kind, why)
        return Verdict(
            None, "; ".join(filter(None, (why, f"no network is new to the {champion} that serves: it stays")))
        )
    if champion not in errors and not chance_of(errors[kind][fresh], own[fresh], _of(groups, fresh)) < SIGNIFICANCE:
        return Verdict(None, f"the {champion} that serves cannot be trained anew, and no other is clearly better")
    return _newer(kind, champion, errors[kind][fresh], own[fresh], _of(groups, fresh), why)


def _of(groups: Sequence[str], chosen: NDArray[np.bool_]) -> Sequence[str]:
    return [group for group, wanted in zip(groups, chosen, strict=True) if wanted]


def _newer(kind: str, champion: str, new: Errors, own: Errors, groups: Sequence[str], why: str) -> Verdict:
    """Compare a new model with the champion itself, on networks that are new to both."""
    told = (
        f"{_percent(float(np.median(new)))} against {_percent(float(np.median(own)))} of the {champion} before, "
        f"on {len(new)} networks new to both"
    )
    p = chance_of(own, new, groups)
    if p < SIGNIFICANCE:
        reason = f"the {champion} that serves is better than the new {kind}: it stays ({told}, p = {p:.2g})"
        return Verdict(None, "; ".join(filter(None, (why, reason))))
    return Verdict(kind, "; ".join(filter(None, (why, f"the new {kind} serves: {told}"))))


def chance_of(better: Errors, worse: Errors, groups: Sequence[str]) -> float:
    """Return how likely the first of two columns ``(n,)`` of errors is lower by chance; 1 where its median is not."""
    if not np.median(better) < np.median(worse):
        return 1.0
    _, of_class = np.unique(np.asarray(groups), return_inverse=True)
    difference = np.bincount(of_class, weights=worse - better) / np.bincount(of_class)
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, alternative="greater").pvalue)


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %"
