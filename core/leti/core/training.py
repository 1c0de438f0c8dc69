"""Training on the wire: what is asked for, how each predictor did, which one serves, what more measurements bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from leti.core.measurement import Repeatability
from leti.core.prediction import Metrics
from leti.core.wire import STRICT


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Train predictors on everything accepted of a platform, and judge them on classes held out.

    ``kinds`` empty means every kind that is installed and trains in seconds; costly ones are named. Where few networks
    are measured, and other platforms of the same precision have active predictors, ``adapted`` is among them, which
    adapts those: up to a hundred networks beside the others, alone where there are too few for these.

    A network that was once trained on, or held out, stays on its side in every later training of its platform, with all
    of its isomorphism class; ``holdout_share`` is the share of classes held out that new ones are split to reach.

    With ``activate``, the first training's best in grouped cross-validation inside the training part becomes active.
    Later ones judge the active predictor too, whose kind they train as well, and replace it only by a better one; the
    holdout only reports. With ``learning_curve``, the best kind that is no mix of others is trained on parts of the
    training part as well, to tell what more measurements would bring.

    With ``dataset_id``, predictors are trained on that dataset of the platform as it was frozen or imported, with its
    own split, and nothing is frozen anew: ``holdout_share`` does not count.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    kinds: tuple[str, ...] = ()
    holdout_share: float = 0.25
    seed: int = 0
    activate: bool = True
    learning_curve: bool = False
    dataset_id: int | None = None


@dataclass(frozen=True, slots=True)
class PredictorInfo:
    """A trained predictor: what it was trained on, how it did on the holdout, and in cross-validation (MdAPE).

    One that was retired can serve no more: its files are gone, or about to be.
    """

    id: int
    kind: str
    platform_id: str
    dataset_id: int
    version: int
    active: bool
    artifact_sha256: str
    metrics: Metrics
    cross_validation_mdape: float
    created_at: str
    retired_at: str | None = None


@dataclass(frozen=True, slots=True)
class PredictorPage:
    """One page of predictors; ``next`` is the cursor of the page after it."""

    items: tuple[PredictorInfo, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class HoldoutPoint:
    """One network of a predictor's holdout: what was measured, and what was predicted."""

    fingerprint: str
    space: str
    measured_ms: float
    latency_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The median absolute percentage error (MdAPE) after training on so many networks, and its bounds at 90 %."""

    networks: int
    mdape: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How the error of a kind of predictor falls with the networks trained on, and how it should go on falling.

    ``measured`` is from cross-validation inside the training part. ``expected`` continues it by a power law, first to
    the whole training part, at last to four times as much; it is empty where that cannot be told, for ``reason``.
    """

    kind: str
    measured: tuple[CurvePoint, ...]
    expected: tuple[CurvePoint, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The predictors of one training, the simplest first, and the repeatability of the platform beside them.

    ``remarks`` says what was odd about the measurements or the predictors, a sentence each.
    """

    dataset_id: int
    platform_id: str
    reference_version: int
    predictors: tuple[PredictorInfo, ...]
    repeatability: Repeatability | None
    learning_curve: LearningCurve | None = None
    remarks: tuple[str, ...] = ()


# --- which predictor serves ------------------------------------------------------------------------------------------

PromotionReason = Literal["trained", "retrained", "promoted", "rolled-back"]
"""Why a predictor began to serve: a training that was asked for, or that began by itself, or a user said so."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A predictor that began to serve its platform; ``remark`` says what it was compared with."""

    id: int
    platform_id: str
    predictor_id: int
    kind: str
    version: int
    at: str
    by: str
    reason: PromotionReason
    remark: str = ""


@dataclass(frozen=True, slots=True)
class PromotionPage:
    """One page of promotions, the newest first; ``next`` is the cursor of the page after it."""

    items: tuple[Promotion, ...]
    next: int | None


# --- evaluation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Judge predictors of a platform on what was measured since: networks of classes that no part of their dataset has.

    The active one, or ``every`` one that is stored.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    every: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a predictor does on networks that are new to it; ``metrics`` is ``None`` where ``reason`` says why."""

    predictor: PredictorInfo
    metrics: Metrics | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Evaluations, the oldest predictor first, beside the platform's repeatability."""

    platform_id: str
    reference_version: int
    evaluations: tuple[Evaluation, ...]
    repeatability: Repeatability | None
