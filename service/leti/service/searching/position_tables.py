"""Latency tables of search spaces: what each option adds at each position, by the active predictor of a platform.

The predictor is asked for networks drawn from the space, and a table fitted to its answers; how far the table's sums
are from the predictor, on networks drawn beside those, stands in the table.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from leti.core.codec import Json, to_json
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput, InvalidSpec, NotFound
from leti.core.searching import LatencyTable, TableError, TablePlace
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.training import PredictorInfo
from leti.core.wire import Zero
from leti.generator.spaces import SearchSpace, get_space
from leti.generator.spaces.places import Place, places_of
from leti.service.catalogue import name_network
from leti.service.searching.predictors import find_predictor
from leti.service.serving import LoadedPredictors
from leti.service.store import Store

if TYPE_CHECKING:
    from leti.predictors.position_table import PositionTable

FORMAT: Final = 1
"""Raised when the same predictor and space give another table."""

SEED: Final = 0
FOR_EACH: Final = 4
"""Networks drawn to fit to, for each option that is free to differ …"""

FEWEST, MOST = 300, 1_200
"""… but no fewer and no more than these."""

TRIES: Final = 4
"""Draws for each network that is wanted: some are no network of this config, or one that was drawn before."""

HELD_OUT: Final = 250
"""Networks drawn beside those, to compare the table with the predictor."""

MAX_MDAPE: Final = 0.25
"""A table whose sums are off by more than this, at the median, is refused: the space is not additive."""

LEAST: Final = 12
"""Networks below which a space is too small for a table."""

KEPT: Final = 64
"""Tables kept in memory."""

MAX_MEASURED: Final = 1_000
"""Measured networks, the newest, that a table is compared with."""


@final
@dataclass(frozen=True)
class TableQuestion:
    """Which table is wanted, everything checked, and the predictor that answers."""

    platform_id: str
    precision: ModelPrecision
    space: SearchSpace
    places: tuple[Place, ...]
    config: NetworkConfig
    zero: Zero
    fixed: Mapping[int, int]
    predictor: PredictorInfo

    @property
    def digest(self) -> str:
        """A SHA-256 that is another where the table is: of the predictor, the space, and what was asked of it."""
        said: list[Json] = [
            *(FORMAT, self.platform_id, self.predictor.id, self.predictor.artifact_sha256, self.precision),
            *(self.space.name, self.zero, to_json(self.config), sorted(self.fixed.items())),
        ]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@final
class PositionTables:
    """Makes tables when they are asked for first; those asked for last stay in memory."""

    def __init__(self, store: Store, loaded: LoadedPredictors) -> None:
        self._store = store
        self._loaded = loaded
        self._made: OrderedDict[str, LatencyTable] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def question(
        self, platform_id: str, space: str, config: NetworkConfig | None, zero: Zero, fixed: Mapping[int, int]
    ) -> TableQuestion:
        """Return what is asked for, checked.

        Raises :class:`NotFound` for the platform, for the space and where no predictor is active, and
        :class:`InvalidInput` for a space without fixed positions and for options that there are not.
        """
        platform = self._store.platforms.platform(platform_id)
        try:
            found = get_space(space)
        except InvalidSpec as error:
            raise NotFound(error.message, field="space", remedy=error.remedy) from error
        places = places_of(found)
        for place, option in fixed.items():
            if not (0 <= place < len(places) and 0 <= option < len(places[place].options)):
                raise InvalidInput(
                    f"position {place} has no option {option}",
                    field="fixed",
                    remedy=f"positions 0 to {len(places) - 1}, options from 0 on, as in 0=24,1=0",
                )
        asked = config or found.default_config
        info = find_predictor(self._store, platform_id, None)
        return TableQuestion(platform_id, platform.model_precision, found, places, asked, zero, fixed, info)

    def table(self, question: TableQuestion) -> LatencyTable:
        """Return a table.

        Raises :class:`InvalidInput` where the space has too few networks, and where no sum comes near the predictor;
        :class:`~leti.core.errors.NotPredictable` where that cannot price networks of the space.
        """
        table = self._look_up(question.digest) or self._make_once(question)
        off = table.against_predictor.mdape
        if off > MAX_MDAPE:
            raise InvalidInput(
                f"no sum over positions tells latencies here: the best one is off by {off:.0%} at the median",
                field="fixed",
                remedy="fix the positions that others depend on, such as strides and channels, or ask for predictions",
                mdape=off,
            )
        return table

    def _make_once(self, question: TableQuestion) -> LatencyTable:
        digest = question.digest
        with self._making:  # the same table is not made twice, and one at a time leaves processors to others
            found = self._look_up(digest)
            if found is None:
                found = self._make(question)
                with self._lock:
                    self._made[digest] = found
                    if len(self._made) > KEPT:
                        self._made.popitem(last=False)
        return found

    def _look_up(self, digest: str) -> LatencyTable | None:
        with self._lock:
            if digest in self._made:
                self._made.move_to_end(digest)
            return self._made.get(digest)

    def _make(self, question: TableQuestion) -> LatencyTable:
        import numpy as np  # the service starts without it

        from leti.predictors.position_table import fit_positions

        space = question.space
        specs, classes = _draw(question)
        held_out = min(HELD_OUT, len(specs) // 3)
        choices = np.array([space.encode(spec) for spec in specs], dtype=np.int64)
        networks = [name_network(spec, question.zero, question.precision) for spec in specs]
        predictor = self._loaded.get(question.predictor.artifact_sha256)
        predicted = np.asarray(predictor.predict([known.graph for known in networks], coverage=0.5).latency_ms)
        table = fit_positions(choices[held_out:], space.positions, predicted[held_out:], classes[held_out:], seed=SEED)
        error = _compare(table, choices[:held_out], predicted[:held_out])
        if error is None:
            raise InvalidInput(f"{space.name} has too few networks for a table", field="space")
        return LatencyTable(
            platform_id=question.platform_id,
            space=space.name,
            config=to_json(question.config),
            zero=question.zero,
            fixed={str(place): option for place, option in sorted(question.fixed.items())},
            predictor_id=question.predictor.id,
            predictor=question.predictor.kind,
            version=question.predictor.version,
            constant_ms=table.constant_ms,
            places=tuple(
                TablePlace(place.name, place.options, _entries(of_place))
                for place, of_place in zip(question.places, table.options_ms, strict=True)
            ),
            fitted_to=len(specs) - held_out,
            against_predictor=error,
            against_measured=self._against_measured(question, table),
        )

    def _against_measured(self, question: TableQuestion, table: PositionTable) -> TableError | None:
        """Compare with networks of the space that are measured, of this config and these fixed options."""
        import numpy as np

        choices, measured_ms = [], []
        rows = self._store.scores.measured(question.platform_id, question.space.name, question.zero, limit=MAX_MEASURED)
        for row in rows:
            spec = NetworkSpec.from_json(row.spec)
            vector = question.space.encode(spec)
            if question.space.decode(vector, question.config).config == spec.config and all(
                vector[place] == option for place, option in question.fixed.items()
            ):
                choices.append(vector)
                measured_ms.append(row.latency_ms)
        if not choices:
            return None
        return _compare(table, np.array(choices, dtype=np.int64), np.array(measured_ms))


def _draw(question: TableQuestion) -> tuple[list[NetworkSpec], list[str]]:
    """Return networks of the space as it draws them, with what is fixed, and their classes: no two of one class.

    Raises :class:`InvalidInput` where there are too few.
    """
    space, fixed = question.space, question.fixed
    free = sum(count - 1 for place, count in enumerate(space.positions) if place not in fixed)
    wanted = min(max(FOR_EACH * free, FEWEST), MOST) + HELD_OUT
    rng = random.Random(SEED)  # noqa: S311 - a reproducible draw, no secret
    found: dict[str, NetworkSpec] = {}
    for _ in range(TRIES * wanted):
        if len(found) == min(wanted, space.size()):
            break
        try:
            spec = space.draw(rng, question.config)
            if fixed:
                vector = space.encode(spec)
                spec = space.decode([fixed.get(place, option) for place, option in enumerate(vector)], question.config)
            space.check(spec)
        except InvalidSpec:
            continue
        if not space.is_degenerate(spec):
            found.setdefault(space.isomorphism_class(spec), spec)
    if len(found) < LEAST:
        raise InvalidInput(
            f"only {len(found)} networks of {space.name} were found with this config and what is fixed",
            field="fixed" if fixed else "config",
            remedy="fix less, or ask for predictions of each: POST /v1/predictions",
        )
    return list(found.values()), list(found)


def _compare(table: PositionTable, choices: Any, latencies_ms: Any) -> TableError | None:
    """Return how far a table is from latencies; ``None`` where it can price no network."""
    import numpy as np

    sums = table.sums_ms(choices)
    priced = np.isfinite(sums)
    if not priced.any():
        return None
    error = np.abs(sums[priced] / latencies_ms[priced] - 1)
    return TableError(
        networks=len(error),
        mdape=float(np.median(error)),
        within_5=float(np.mean(error <= 0.05)),
        within_10=float(np.mean(error <= 0.1)),
        max_error=float(error.max()),
        unpriced=int((~priced).sum()),
    )


def _entries(values: Any) -> tuple[float | None, ...]:
    numbers: Sequence[float] = values.tolist()
    return tuple(None if number != number else number for number in numbers)
