"""The answerer: a latency for each network that is asked for, measured where it is known, predicted where it is not."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain, repeat
from typing import Final, NamedTuple, TypeVar, final

from leti.core.device import ModelPrecision, Platform
from leti.core.errors import InvalidInput, LetiError, NotFound, NotPredictable, TooLarge
from leti.core.graph import Graph
from leti.core.measurement import Truth
from leti.core.prediction import Predictions, Predictor
from leti.core.queries import PredictionRequest
from leti.core.training import PredictorInfo
from leti.core.wire import NetworkInput, Zero
from leti.generator.compressing.pieces import Pieces
from leti.service.answering.ahead import Ahead
from leti.service.answering.answers import Answer, Answers, PlatformAnswers
from leti.service.answering.measuring import Asker
from leti.service.answering.reading import Known, Named, Networks, Reader
from leti.service.answering.remembered import Predicted, RememberedPredictions
from leti.service.answering.together import Need, Steps, alone
from leti.service.logs import count
from leti.service.model_files import ModelFiles
from leti.service.serving import LoadedPredictors
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.store.lookups import Lookup
from leti.service.store.predictors import check_platform

MAX_PLATFORMS: Final = 100
"""Platforms of one request."""

PLATFORMS_A_BATCH: Final = 10
"""A request may hold as many answers, networks times platforms, as the largest batch on so many platforms."""

Name = TypeVar("Name", bound=Hashable)


@final
class _Said(NamedTuple):
    """What a predictor said of networks, what it cannot price, and its seconds: of one call, the first is told them."""

    predicted: dict[str, Predicted]
    failed: dict[str, LetiError]
    seconds: float


@final
class Answerer:
    """Answers requests for latencies: the truth where there is one, else one call of one predictor for all the rest."""

    def __init__(self, store: Store, loaded: LoadedPredictors, models: ModelFiles, settings: Settings) -> None:
        self._store = store
        self._loaded = loaded
        self._settings = settings
        self._reader = Reader(store, limit=settings.max_batch, graphs=settings.graph_limits)
        self._asker = Asker(store, models, limit=settings.max_campaign_networks)
        self._remembered = RememberedPredictions()
        self.ahead: Final = Ahead(loaded, self._remembered, settings.predict_ahead)
        self._platforms: dict[str, Platform] = {}
        self._infos: dict[int, PredictorInfo] = {}

    def answer(self, request: PredictionRequest, *, measure: bool = False) -> Answers:
        """Return what is known of each network on each platform; keep what was predicted, to be scored later.

        Networks are taken in the precision of each platform's models. With ``measure``, those that are not measured are
        queued to be. A network that cannot be read, priced or queued has an error instead. Raises :class:`NotFound` for
        a platform and for the predictor, :class:`InvalidInput` naming the field, and :class:`TooLarge`.
        """
        return alone(self.steps(request, measure=measure))

    def base(self, base: NetworkInput, zero: Zero, where: str) -> Pieces:
        """Return a base of patches, in the order of operators that patches are read in.

        Raises :class:`InvalidInput` and :class:`NotFound`, naming ``where``.
        """
        return self._reader.base(base, zero, where)

    def predict(
        self, platform_id: str, graphs: Sequence[Graph], *, coverage: float
    ) -> tuple[PredictorInfo, Predictions] | None:
        """Return what the active predictor says of graphs, measured or not, and which it is; nothing of it is kept.

        ``None`` where no predictor is active; raises :class:`NotPredictable` where one cannot be priced.
        """
        info = self._store.predictors.active(platform_id)
        if info is None:
            return None
        return info, self._loaded.get(info.artifact_sha256).predict(list(graphs), coverage=coverage)

    def steps(self, request: PredictionRequest, *, measure: bool = False) -> Steps[Answers]:
        """Take the steps of :meth:`answer`, so that requests that come at the same time are answered together."""
        self._check(request)
        count(networks=len(request))
        platforms = [
            self._platform(platform_id, f"platform_ids[{i}]") for i, platform_id in enumerate(request.platform_ids)
        ]
        precisions = dict.fromkeys(platform.model_precision for platform in platforms)
        networks = {precision: self._reader.read(request, precision) for precision in precisions}
        answered: list[PlatformAnswers] = []
        for platform_id, platform in zip(request.platform_ids, platforms, strict=True):
            precision = platform.model_precision
            answered.append((yield from self._on_platform(platform_id, precision, networks[precision], request)))
        if measure:
            for platform, found in zip(platforms, answered, strict=True):
                self._asker.ask(platform, found, networks[found.precision].unique())
        return Answers(request.coverage, networks, tuple(answered))

    def _check(self, request: PredictionRequest) -> None:
        if not 0 < request.coverage < 1:
            raise InvalidInput(f"must be between 0 and 1, not {request.coverage}", field="coverage")
        count = len(request.platform_ids)
        if not count:
            raise InvalidInput("must name at least one platform", field="platform_ids", remedy="GET /v1/platforms")
        if len(set(request.platform_ids)) < count:
            raise InvalidInput("names a platform twice", field="platform_ids", remedy="name each once")
        if count > MAX_PLATFORMS:
            raise TooLarge(f"names {count} platforms", field="platform_ids", remedy=f"at most {MAX_PLATFORMS}")
        answers, limit = count * len(request), PLATFORMS_A_BATCH * self._settings.max_batch
        if answers > limit:
            raise TooLarge(
                f"asks for {answers} answers, {len(request)} networks on {count} platforms",
                field="platform_ids",
                remedy=f"at most {limit}: send fewer networks, or ask for fewer platforms at once",
                limit=limit,
            )

    def _platform(self, platform_id: str, where: str) -> Platform:
        """Return a platform, which never changes under its id."""
        found = self._platforms.get(platform_id)
        if found is None:
            try:
                found = self._store.platforms.platform(platform_id)
            except NotFound as error:
                error.field = where
                raise
            self._platforms[platform_id] = found
        return found

    def _on_platform(
        self, platform_id: str, precision: ModelPrecision, networks: Networks, request: PredictionRequest
    ) -> Steps[PlatformAnswers]:
        named = None if request.predictor_id is None else self._named(platform_id, request.predictor_id)
        unique = networks.unique()
        lookup: Lookup = yield Need(self._look_up, platform_id, list(unique))
        measured = {name: _measured(truth, lookup.reference_ms) for name, truth in lookup.truths.items()}
        count(measured=len(measured))
        found = PlatformAnswers(platform_id, precision, measured)
        asked = {name: network for name, network in unique.items() if name not in measured}
        if asked:
            if named is None and lookup.predictor_id is not None:
                named = self._info(lookup.predictor_id)
            if named is None:
                found.failed.update(zip(asked, repeat(_no_predictor(platform_id)), strict=False))
            else:
                yield from self._predict(named, asked, request.coverage, found)
        return found

    def _predict(
        self, info: PredictorInfo, asked: Mapping[str, Named], coverage: float, found: PlatformAnswers
    ) -> Steps[None]:
        """Predict networks and keep the predictions."""
        found.predictor, found.version = info.kind, info.version
        asked = {name: item.read() if isinstance(item, Known) else item for name, item in asked.items()}
        remembered = self._remembered.get_all(info.artifact_sha256, coverage, asked)
        new = {name: item for name, item in asked.items() if name not in remembered} if remembered else asked
        if new:
            said: _Said = yield Need(self._ask, (info.artifact_sha256, coverage), new)
            if said.seconds:
                count(predict_s=said.seconds)
            found.failed.update(said.failed)
            told = [(new[name], one) for name, one in said.predicted.items()]
            self._remembered.put_all(info.artifact_sha256, coverage, told)
            remembered.update(said.predicted)
            self.ahead.asked(info.artifact_sha256, coverage, next(iter(new.values())))
        found.answers.update((name, answer) for name, (answer, _) in remembered.items())
        found.unknown.update((name, unknown) for name, (_, unknown) in remembered.items() if unknown)
        answers = [answer for answer, _ in remembered.values()]
        columns = ([getattr(one, name) for one in answers] for name in ("latency_ms", "low_ms", "high_ms"))
        self._store.predictions.keep(info.id, coverage, list(remembered), *columns)
        count(predicted=len(remembered))

    def _look_up(self, platform_id: str, asked: Sequence[list[str]]) -> list[Lookup]:
        """Return what the database knows of the networks of each of many requests."""
        if len(asked) == 1:
            return [self._store.lookups.find(platform_id, asked[0])]
        found = self._store.lookups.find(platform_id, list(dict.fromkeys(chain.from_iterable(asked))))
        return [found.of(names) for names in asked]

    def _ask(self, how: tuple[str, float], asked: Sequence[Mapping[str, Named]]) -> list[_Said]:
        """Return what a predictor says of the networks of each of many requests.

        Networks of one name are not taken for one: they may have been read from different choices.
        """
        started = time.perf_counter()
        networks = {(i, name): item for i, named in enumerate(asked) for name, item in named.items()}
        failed: dict[tuple[int, str], LetiError] = {}
        predicted = self._asked_of(*how, networks, failed)
        seconds = time.perf_counter() - started
        said = [_Said({}, {}, 0.0 if i else seconds) for i in range(len(asked))]
        for (i, name), one in predicted.items():
            said[i].predicted[name] = one
        for (i, name), error in failed.items():
            said[i].failed[name] = error
        return said

    def _asked_of(
        self, sha256: str, coverage: float, networks: Mapping[Name, Named], failed: dict[Name, LetiError]
    ) -> dict[Name, Predicted]:
        """Return what a predictor says of networks, but for those that it cannot price."""
        found: dict[Name, Predicted] = {}
        predictor, graphs = self._loaded.get(sha256), {name: item.graph for name, item in networks.items()}
        for names, predicted in _priced(predictor, graphs, coverage, failed):
            found.update(zip(names, Predicted.each(predicted), strict=True))
        return found

    def _info(self, predictor_id: int) -> PredictorInfo:
        """Return a predictor; but for whether it serves, and may do so, nothing of it changes.

        One that is not loaded is looked up anew: it may have been retired since.
        """
        found = self._infos.get(predictor_id)
        if found is None or found.artifact_sha256 not in self._loaded:
            found = self._infos[predictor_id] = self._store.predictors.get(predictor_id)
        return found

    def _named(self, platform_id: str, predictor_id: int) -> PredictorInfo:
        info = self._info(predictor_id)
        check_platform(info, platform_id)
        return info


def _measured(truth: Truth, reference_ms: float) -> Answer:
    latency = truth.ratio * reference_ms
    return Answer(latency, max(latency * (1 - truth.spread), 0.0), latency * (1 + truth.spread), True, truth.count, 0.0)


def _priced(
    predictor: Predictor, graphs: Mapping[Name, Graph], coverage: float, failed: dict[Name, LetiError]
) -> list[tuple[list[Name], Predictions]]:
    """Return predictions of all graphs in one call, or of those that can be priced where some cannot; these fail.

    A call tells of the first graph that it cannot price; halving finds the others.
    """
    names = list(graphs)
    try:
        return [(names, predictor.predict(list(graphs.values()), coverage=coverage))]
    except (NotPredictable, InvalidInput) as error:
        if error.field == "coverage":
            raise
        if len(names) == 1:
            error.field = ""  # the number of a graph among those of the call
            failed[names[0]] = error.with_traceback(None)
            return []
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    parts = [_priced(predictor, {name: graphs[name] for name in half}, coverage, failed) for half in halves]
    return list(chain.from_iterable(parts))


def _no_predictor(platform_id: str) -> NotFound:
    return NotFound(
        f"is not measured on {platform_id}, and no predictor is active there",
        field="platform_ids",
        remedy="train one: POST /v1/predictors, or leti train",
    )
