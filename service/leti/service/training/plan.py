"""The plan of a training: which kinds of predictor, on how many networks, with what other platforms know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

from leti.core.errors import Conflict, InvalidInput, TooFewMeasurements
from leti.core.training import TrainingRequest
from leti.core.wire import MAX_SEED
from leti.predictors import registry
from leti.service.settings import Settings
from leti.service.sources import ADAPTED, Found, Sources
from leti.service.store import Store
from leti.service.store.datasets import too_few

if TYPE_CHECKING:
    from leti.core.graph import Graph

MAX_HOLDOUT: Final = 0.9

FOLDS: Final = 5
"""Folds of the cross-validation that chooses which predictor serves."""

FEW: Final = 6
"""Fewest measured networks of a platform that is adapted to: five to learn from, and one to judge on."""

MANY: Final = 100
"""Measured networks above which a platform is adapted to only by name: it can do without, and that takes long."""


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """The kinds to train, how many measured networks that needs, and what other platforms know.

    ``asked`` are those that were named; ``beside`` is the kind of the predictor that serves, where it is trained only
    to be compared with.
    """

    kinds: Sequence[str]
    networks: int
    sources: Found
    asked: Sequence[str]
    beside: str = ""

    @property
    def remarks(self) -> Sequence[str]:
        """What is adapted, and what cannot be."""
        if ADAPTED not in self.kinds:
            return ()
        named = ", ".join(f"the {info.kind} of {info.platform_id}" for info in self.sources.infos)
        return (f"adapted: learnt from {named}", *self.sources.remarks)


@final
class Plans:
    """Makes plans of what is asked for and what is measured."""

    def __init__(self, store: Store, sources: Sources, settings: Settings) -> None:
        self._store = store
        self._sources = sources
        self._settings = settings

    def check(self, request: TrainingRequest) -> None:
        """Raise what a training would raise at once, before anything is trained; see :meth:`make`."""
        plan = self.make(request)
        if request.dataset_id is not None:
            train = self._store.datasets.get(request.dataset_id).networks_train
            self.check_given(request.dataset_id, train, plan)
            return
        measured = self._networks(request)
        if measured < plan.networks:
            error = too_few(request.platform_id, measured, plan.networks)
            error.remedy += advice(plan)
            raise error

    def check_given(self, dataset_id: int, train: int, plan: Plan) -> None:
        """Raise :class:`TooFewMeasurements` where a dataset has too few networks to learn from."""
        if not is_enough(train, self._settings.min_networks, plan):
            raise TooFewMeasurements(
                f"dataset {dataset_id} has {train} networks to learn from, which are too few",
                field="dataset_id",
                remedy="name a larger dataset",
                train=train,
            )

    def make(self, request: TrainingRequest) -> Plan:
        """Return what to train: what is asked for, else what suits the number of measured networks.

        With the kind of the predictor that serves, to compare with it, where the request is to activate the best.
        Raises :class:`NotFound` for the platform or the dataset, :class:`InvalidInput` for an unknown kind, a share or
        a seed out of range, and :class:`Conflict` where the dataset is another platform's, or nothing can be adapted.
        """
        asked = _check(request)
        measured = self._networks(request)
        enough = networks_needed(self._settings.min_networks, request.holdout_share)
        alone = asked or registry.default_kinds()
        few_enough = measured <= MANY and ADAPTED in registry.kinds(sources=True)
        if not (ADAPTED in asked or (not asked and few_enough)):
            return self._with_champion(Plan(alone, enough, Found(), asked), request)
        found = self._others(request.platform_id)
        if asked and not found.predictors:
            raise _nothing_to_adapt(found)
        if asked or not found.predictors:
            plan = Plan(alone, FEW if list(asked) == [ADAPTED] else enough, found, asked)
        elif measured < max(enough, FEW):
            return Plan((ADAPTED,), FEW, found, asked)
        else:
            plan = Plan(registry.default_kinds(sources=True), enough, found, asked)
        return self._with_champion(plan, request)

    def able(self, plan: Plan, graphs: Sequence[Graph]) -> Plan:
        """Leave out sources that cannot price the platform's networks, and adaptation where none is left."""
        if ADAPTED not in plan.kinds:
            return plan
        found = self._sources.able(plan.sources, graphs)
        if found.predictors:
            return replace(plan, sources=found)
        others = [kind for kind in plan.kinds if kind != ADAPTED]
        if ADAPTED in plan.asked or not others:
            raise _nothing_to_adapt(found)
        return replace(plan, kinds=others)

    def _networks(self, request: TrainingRequest) -> int:
        """Return how many networks there are to train on and to hold out: measured, or in the dataset asked for."""
        platform = self._store.platforms.get(request.platform_id)
        if request.dataset_id is None:
            return platform.networks_measured
        dataset = self._store.datasets.get(request.dataset_id)
        if dataset.platform_id != request.platform_id:
            raise Conflict(
                f"is of the platform {dataset.platform_id}", field="dataset_id", remedy="name a dataset of the platform"
            )
        return dataset.networks_train + dataset.networks_holdout

    def _with_champion(self, plan: Plan, request: TrainingRequest) -> Plan:
        champion = self._store.predictors.active(request.platform_id) if request.activate else None
        installed = registry.kinds(sources=True)
        if champion is None or champion.kind in plan.kinds or champion.kind not in installed:
            return plan
        found = self._others(request.platform_id) if champion.kind == ADAPTED else plan.sources
        if champion.kind == ADAPTED and not found.predictors:
            return plan
        if champion.kind != ADAPTED and plan.networks <= FEW:
            return plan  # what can be adapted to is too little for any other kind
        kinds = [kind for kind in installed if kind in (*plan.kinds, champion.kind)]
        return replace(plan, kinds=kinds, sources=found, beside=champion.kind)

    def _others(self, platform_id: str) -> Found:
        from leti.predictors.adaptation.predictor import MAX_SOURCES  # brings numpy

        precision = self._store.platforms.platform(platform_id).model_precision
        return self._sources.others(platform_id, precision, most=MAX_SOURCES)


def networks_needed(minimum: int, holdout_share: float) -> int:
    """Return how many networks, each a class of its own, leave ``minimum`` to train on beside holdout and fold."""
    count = minimum
    while not leaves_enough(count - max(round(holdout_share * count), 1), minimum):
        count += 1
    return count


def leaves_enough(train: int, minimum: int) -> bool:
    """Return whether so many networks to train on leave ``minimum`` of them beside a fold."""
    return train - math.ceil(train / FOLDS) >= minimum


def is_enough(train: int, minimum: int, plan: Plan) -> bool:
    """Return whether a plan's kinds can learn from so many networks."""
    return train >= FEW - 1 if plan.networks <= FEW else leaves_enough(train, minimum)


def advice(plan: Plan) -> str:
    """Return what else would do where there are too few networks."""
    if plan.networks <= FEW:
        return ""
    return f"; {FEW} are enough to adapt an active predictor of another platform of this precision"


def _check(request: TrainingRequest) -> Sequence[str]:
    """Return the kinds that are asked for, the simplest first."""
    installed = registry.kinds(sources=True)
    for i, kind in enumerate(request.kinds):
        if kind not in installed or kind in request.kinds[:i]:
            raise InvalidInput(
                f"{kind[:80]!r} is not a kind that can be trained here, or was named before",
                field=f"kinds[{i}]",
                remedy=f"some of {', '.join(installed)}",
            )
    if not 0 < request.holdout_share <= MAX_HOLDOUT:
        raise InvalidInput(
            f"must be above 0 and at most {MAX_HOLDOUT}, not {request.holdout_share}", field="holdout_share"
        )
    if not 0 <= request.seed <= MAX_SEED:
        raise InvalidInput(f"must be from 0 to {MAX_SEED}", field="seed")
    return [kind for kind in installed if kind in request.kinds]


def _nothing_to_adapt(found: Found) -> Conflict:
    return Conflict(
        "; ".join(("no other platform has a predictor that could be adapted", *found.remarks)),
        field="kinds",
        remedy="train one of another platform that measures models of the same precision",
    )
