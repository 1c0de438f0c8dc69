"""Stacked: a convex mix of the predictions of other kinds, with weights learnt from networks that none had seen.

The members are trained once and cross-fitted as they would be alone; the mix pays for nothing but its weights
(:mod:`leti.predictors.stacking.mixing`). Which members count, and how much, is chosen for each platform by its own
data, and is written into the artifact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast, final

from typing_extensions import override

from leti.core.codec import Json, from_json, read_object, to_json
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import OperatorTimes, Progress
from leti.predictors import registry
from leti.predictors.batch import Batch, Ints, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, CrossFit, Encoder, Examples, Fitted, Model
from leti.predictors.conformal import Calibration
from leti.predictors.stacking.mixing import fit_weights, mix, mix_unseen

with needs("boosting"):
    import numpy as np

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

MEMBERS: Final = ("linear", "lookup_table", "kernel_sum", "xgboost")
"""Kinds that are mixed where none are named, as far as they are installed: one of each manner, trained in seconds."""

_SEPARATOR = "."


@final
@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Graphs encoded in several ways, and which of the ways is each member's."""

    parts: tuple[Any, ...]
    places: Mapping[str, int]
    count: int

    def __len__(self) -> int:
        """Return the number of graphs."""
        return self.count

    def __getitem__(self, rows: Ints) -> Parts:
        """Return the graphs with these numbers."""
        return Parts(tuple(part[rows] for part in self.parts), self.places, len(rows))

    def of(self, kind: str) -> Any:
        """Return the graphs as a member reads them."""
        return self.parts[self.places[kind]]


@final
@dataclass(frozen=True, slots=True)
class Encoders:
    """The different encoders of the members, and the place of each member's among them."""

    encoders: tuple[Encoder, ...]
    places: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, by_kind: Mapping[str, Encoder]) -> Encoders:
        """Return encoders without repetition: members that read the same rows have them made once."""
        encoders: list[Encoder] = []
        for encoder in by_kind.values():
            if encoder not in encoders:
                encoders.append(encoder)
        return cls(tuple(encoders), tuple((kind, encoders.index(encoder)) for kind, encoder in by_kind.items()))

    def __getitem__(self, kind: str) -> Encoder:
        """Return the encoder of a member."""
        return self.encoders[dict(self.places)[kind]]

    def encode(self, batch: Batch) -> Parts:
        """Return the graphs of a batch in the ways of all members."""
        return Parts(tuple(encoder.encode(batch) for encoder in self.encoders), dict(self.places), len(batch))

    def only(self, kinds: Sequence[str]) -> Encoders:
        """Return the encoders of these members alone."""
        return Encoders.of({kind: self[kind] for kind in kinds})

    def to_json(self) -> Json:
        """Return ``{"encoders": [...], "places": [[kind, number], ...]}``."""
        return {"encoders": [to_json(encoder) for encoder in self.encoders], "places": to_json(self.places)}

    @classmethod
    def from_json(cls, data: Json, where: str = "") -> Encoders:
        """Read what :meth:`to_json` returned; raise :class:`~leti.core.errors.InvalidInput` where it is not that."""
        read = read_object(data, where, required=("encoders", "places"))
        places = from_json(tuple[tuple[str, int], ...], read["places"], f"{where}.places")
        if not isinstance(read["encoders"], list) or not places:
            raise InvalidInput("must be an array, with a member or more", field=f"{where}.encoders")
        types = {place: member_class(kind).encoder_type for kind, place in places}
        if sorted(types) != list(range(len(read["encoders"]))):
            raise InvalidInput("must name each encoder", field=f"{where}.places")
        encoders = [
            from_json(types[i], encoder, f"{where}.encoders[{i}]") for i, encoder in enumerate(read["encoders"])
        ]
        return cls(tuple(encoders), places)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Mix(Model[Parts]):
    """The members' models by kind, and their weights ``(m,)``."""

    models: Mapping[str, Model[Any]]
    weights: Vector

    @override
    def latencies_ms(self, encoded: Parts) -> Vector:
        columns = [model.latencies_ms(encoded.of(kind)) for kind, model in self.models.items()]
        return mix(np.column_stack(columns), self.weights)

    @override
    def unknown(self, encoded: Parts) -> Sequence[tuple[str, ...]]:
        said = [found for kind, model in self.models.items() if (found := model.unknown(encoded.of(kind)))]
        return [tuple(sorted(set().union(*of_one))) for of_one in zip(*said, strict=True)]

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        data: dict[str, Json] = {}
        arrays: dict[str, Any] = {"weights": self.weights}
        files: dict[str, bytes] = {}
        for kind, model in self.models.items():
            data[kind], own_arrays, own_files = model.to_parts()
            arrays |= {f"{kind}{_SEPARATOR}{name}": array for name, array in own_arrays.items()}
            files |= {f"{kind}{_SEPARATOR}{name}": content for name, content in own_files.items()}
        return {"members": data}, arrays, files


@final
class StackedPredictor(CalibratedPredictor[Encoders, Parts]):
    """A mix of other kinds: ``kinds``, or those of :data:`MEMBERS` that are installed.

    Members that gain nothing are dropped. Fitting costs what fitting the members costs; :meth:`of` takes members that
    are fitted already, and costs nothing.
    """

    kind: ClassVar[str] = "stacked"
    encoder_type: ClassVar[type[Any]] = Encoders

    def __init__(self, kinds: Sequence[str] | None = None) -> None:
        super().__init__()
        self._kinds = tuple(kinds) if kinds is not None else installed_members()
        if not self._kinds or len(set(self._kinds)) < len(self._kinds):
            raise InvalidInput("must name one member or more, each once", field="kinds")

    @classmethod
    def of(cls, members: Mapping[str, CalibratedPredictor[Any, Any]], *, seed: int = 0) -> Self:
        """Return a mix of members by kind that were fitted to the same measurements with this seed, in this process.

        Nothing is trained: the weights come from the members' out-of-fold predictions. Raises
        :class:`~leti.core.errors.InvalidInput` for members that were not, or that were loaded.
        """
        stacked = cls(tuple(members))
        training, columns = None, []
        for kind, member in members.items():
            if member.training is None or member.unseen_ms is None or member.kind != kind:
                raise InvalidInput("must be a predictor of that kind, fitted in this process", field=f"members.{kind}")
            training = training or member.training
            if not _same(training.graphs, member.training.graphs) or not np.array_equal(
                training.latencies_ms, member.training.latencies_ms
            ):
                raise InvalidInput("was not fitted to the same measurements as the others", field=f"members.{kind}")
            columns.append(member.unseen_ms)
        assert training is not None  # noqa: S101 - there is a member
        fitted = {kind: member.fitted for kind, member in members.items()}
        encoders = Encoders.of({kind: of_one.encoder for kind, of_one in fitted.items()})
        models = {kind: of_one.model for kind, of_one in fitted.items()}
        examples = Examples(encoders, Parts((), {}, 0), training.latencies_ms, training.groups)
        found = _mixed(examples, models, np.column_stack(columns), seed)
        made = replace(
            next(iter(fitted.values())),
            encoder=encoders,
            calibration=Calibration.of(training.latencies_ms, found.unseen_ms),
            model=found.model,
        )
        return stacked.adopt(_pruned(made), training, found.unseen_ms)

    @property
    def weights(self) -> Mapping[str, float]:
        """How much each member counts, the largest first; they add up to one."""
        model = cast("Mix", self.fitted.model)
        found = dict(zip(model.models, model.weights.tolist(), strict=True))
        return MappingProxyType(dict(sorted(found.items(), key=lambda item: -item[1])))

    @property
    @override
    def remarks(self) -> tuple[str, ...]:
        """What was odd about the measurements, and the weights."""
        mixed = ", ".join(f"{100 * weight:.0f} % {kind}" for kind, weight in self.weights.items())
        return (*super().remarks, f"{self.kind} mixes {mixed}")

    @override
    def learn_encoder(self, batch: Batch) -> Encoders:
        return Encoders.of({kind: member_class(kind)().learn_encoder(batch) for kind in self._kinds})

    @override
    def learn(self, examples: Examples[Encoders, Parts], *, seed: int) -> Model[Parts]:
        return self.cross_fit(examples, seed=seed, progress=lambda done, total: None).model

    @override
    def cross_fit(self, examples: Examples[Encoders, Parts], *, seed: int, progress: Progress) -> CrossFit[Parts]:
        models: dict[str, Model[Any]] = {}
        columns = []
        for kind in self._kinds:
            own: Examples[Any, Any] = Examples(
                examples.encoder[kind],
                examples.encoded.of(kind),
                examples.latencies_ms,
                examples.groups,
                examples.operator_times,
            )
            found = member_class(kind)().cross_fit(own, seed=seed, progress=_within(progress, len(models), self._kinds))
            models[kind] = found.model
            columns.append(found.unseen_ms)
        return _mixed(examples, models, np.column_stack(columns), seed)

    @override
    def fit(
        self,
        graphs: Sequence[Graph],
        latencies_ms: Sequence[float],
        *,
        operator_times: OperatorTimes | None = None,
        groups: Sequence[str] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        super().fit(graphs, latencies_ms, operator_times=operator_times, groups=groups, seed=seed, progress=progress)
        return self.adopt(_pruned(self.fitted), self.training, self.unseen_ms)

    @classmethod
    @override
    def load(cls, folder: Path) -> Self:
        loaded = super().load(folder)
        fitted = loaded.fitted
        if set(cast("Mix", fitted.model).models) != {kind for kind, _ in fitted.encoder.places}:
            raise ArtifactError("has encoders for other members than its models", field=folder.name)
        return loaded

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[Parts]:
        weights = arrays["weights"]
        models = {
            kind: member_class(kind).read_model(own, _of(kind, arrays), _of(kind, files))
            for kind, own in data["members"].items()
        }
        if weights.shape != (len(models),) or not np.all(weights >= 0) or not np.isclose(weights.sum(), 1):
            raise ArtifactError("do not fit the members", field="weights")
        return Mix(MappingProxyType(models), weights)


def installed_members() -> tuple[str, ...]:
    """Return the kinds of :data:`MEMBERS` that are installed here."""
    return tuple(kind for kind in MEMBERS if kind in registry.kinds())


def member_class(kind: str) -> type[CalibratedPredictor[Any, Any]]:
    """Return the class of a kind that can be mixed; raise :class:`~leti.core.errors.InvalidInput` for another."""
    found = registry.predictor_class(kind)
    if not issubclass(found, CalibratedPredictor) or found is StackedPredictor:
        raise InvalidInput(f"{kind!r} is not a kind that can be mixed", field="kinds")
    return found


def _mixed(
    examples: Examples[Encoders, Any], models: Mapping[str, Model[Any]], unseen: Any, seed: int
) -> CrossFit[Parts]:
    weights = fit_weights(unseen, examples.latencies_ms)
    kept = {kind: float(weight) for kind, weight in zip(models, weights, strict=True) if weight > 0}
    model = Mix(MappingProxyType({kind: models[kind] for kind in kept}), np.array(list(kept.values())))
    return CrossFit(model, mix_unseen(unseen, examples.latencies_ms, examples.groups, seed=seed))


def _same(one: Sequence[Graph], other: Sequence[Graph]) -> bool:
    return len(one) == len(other) and all(a is b or a == b for a, b in zip(one, other, strict=True))


def _within(progress: Progress, before: int, kinds: Sequence[str]) -> Progress:
    """Return the progress of one member as a part of the whole, which has 100 steps a member."""

    def told(done: int, total: int) -> None:
        if done == 0 and before:
            return  # the end of the member before
        progress(100 * before + round(100 * done / total), 100 * len(kinds))

    return told


def _of(kind: str, named: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{kind}{_SEPARATOR}"
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _pruned(fitted: Fitted[Encoders, Parts]) -> Fitted[Encoders, Parts]:
    """Let go of the encoders that no member reads any more."""
    model = cast("Mix", fitted.model)
    return replace(fitted, encoder=fitted.encoder.only(tuple(model.models)))
