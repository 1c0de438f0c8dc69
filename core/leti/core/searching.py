"""What a search under constraints asks: which networks fit, what their latency is made of, tables of it, and drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from leti.core.queries import Encodings, ItemFailure, Patches
from leti.core.wire import STRICT, NetworkInput, Zero

# --- limits ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LatencyLimit:
    """A platform, the most that a network may take there, and how sure that must be.

    A network keeps the limit where its latency is at most ``at_most_ms`` with a probability of ``confidence``; the
    bound that is compared with the limit is one-sided. A predictor promises intervals: a share ``c`` of latencies lies
    in the one of coverage ``c``. Its upper end at coverage ``2 * confidence - 1`` is the bound above 0.5, the
    prediction itself at 0.5, the lower end at ``1 - 2 * confidence`` below. That is exact where latencies lie above and
    below their predictions alike: intervals are calibrated on the size of errors alone and know nothing of their sign.
    Whatever the errors, above 0.5 the bound holds for a share of ``2 * confidence - 1`` at least, and the answer says
    for which share of the predictor's holdout it does. Of a measured network, the largest deviation of a single
    measurement from the median takes the place of the half interval.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    at_most_ms: float
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class FilterRequest:
    """Networks of which those are wanted that keep every limit, one a platform.

    They are given, and numbered, as in a :class:`~leti.core.queries.PredictionRequest`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    limits: tuple[LatencyLimit, ...]
    networks: tuple[NetworkInput, ...] = ()
    encodings: Encodings | None = None
    zero: Zero = "execute"
    patches: Patches | None = None


@dataclass(frozen=True, slots=True)
class LimitAnswer:
    """How networks stand to one limit: columns in the order of the request, ``None`` for a network that failed.

    ``margin_ms`` is the limit less the bound, negative where the limit is broken. ``measured`` says of which networks
    the bound is of their measurements. ``holdout_share`` is the share of the predictor's ``holdout`` networks whose
    measured latency was no higher than the bound that this confidence gives them; ``None`` where nothing was predicted.
    ``unknown`` holds those indices at which the predictor did not know something: no confidence is proven for these.
    """

    platform_id: str
    at_most_ms: float
    confidence: float
    latency_ms: tuple[float | None, ...]
    bound_ms: tuple[float | None, ...]
    margin_ms: tuple[float | None, ...]
    measured: tuple[bool, ...]
    predictor: str = ""
    version: int = 0
    holdout: int = 0
    holdout_share: float | None = None
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FilterResponse:
    """Which networks fit, as a column in the order of the request; one that failed does not.

    ``fitting`` are the numbers of those that do, the roomiest first: by the least share of a limit that is left over,
    among their limits.
    """

    fits: tuple[bool, ...]
    fitting: tuple[int, ...]
    limits: tuple[LimitAnswer, ...]
    failures: tuple[ItemFailure, ...] = ()


# --- breakdowns ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BreakdownRequest:
    """Networks whose predicted latency is to be taken apart on one platform.

    They are given, and numbered, as in a :class:`~leti.core.queries.PredictionRequest`. Without ``predictor_id``, the
    active predictor is asked where it can tell of layers, else another of the platform that can, the best in
    cross-validation first; where none can, one that tells of features.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    networks: tuple[NetworkInput, ...] = ()
    encodings: Encodings | None = None
    zero: Zero = "execute"
    predictor_id: int | None = None
    patches: Patches | None = None


@dataclass(frozen=True, slots=True)
class LayerShare:
    """What a kernel or a feature adds to a latency in ms; it may be negative.

    ``operators`` are the numbers of the graph's operators that it stands for, empty where it is of the whole network;
    ``described`` says their kinds and shapes. ``measured_ms`` is what the platform's runtime took for them in a
    profiled run of this very network, where there is one: profiling costs time, so that these add up to more than a
    network takes.
    """

    name: str
    latency_ms: float
    operators: tuple[int, ...] = ()
    described: str = ""
    measured_ms: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkBreakdown:
    """The latency of one network as the predictor that explains gives it, and the shares that add up to it.

    ``served_ms`` is what ``POST /v1/predictions`` answers: measured, or by the active predictor; ``None`` where there
    is neither.
    """

    index: int
    fingerprint: str
    latency_ms: float
    shares: tuple[LayerShare, ...]
    served_ms: float | None = None
    source: Literal["measured", "predicted", "none"] = "none"


@dataclass(frozen=True, slots=True)
class BreakdownResponse:
    """Breakdowns by the predictor that is named; ``grain`` says whether its shares are of operators or of features."""

    platform_id: str
    predictor_id: int
    predictor: str
    version: int
    active: bool
    grain: Literal["operators", "features"]
    items: tuple[NetworkBreakdown, ...]
    failures: tuple[ItemFailure, ...] = ()


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TableError:
    """How far a table's sums are from other latencies of ``networks`` that it was not fitted to; shares are 0 … 1.

    ``unpriced`` networks beside them hold an option that is not in the table.
    """

    networks: int
    mdape: float
    within_5: float
    within_10: float
    max_error: float
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class TablePlace:
    """A position of a space: its options by name, and what each adds in ms (``None``: no network of the fit had it)."""

    name: str
    options: tuple[str, ...]
    latency_ms: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """A latency as a sum: the constant, and one entry for each position of a network's vector of choices.

    The cheapest option of each place adds 0 ms. ``fixed`` maps positions to the only option that the table holds for.
    ``against_predictor`` compares with the predictor that the table was fitted to, ``against_measured`` with networks
    of the space that are measured on the platform, ``None`` where none of this config is.
    """

    platform_id: str
    space: str
    config: dict[str, Any]
    zero: Zero
    fixed: dict[str, int]
    predictor_id: int
    predictor: str
    version: int
    constant_ms: float
    places: tuple[TablePlace, ...]
    fitted_to: int
    against_predictor: TableError
    against_measured: TableError | None = None


@dataclass(frozen=True, slots=True)
class KernelPrice:
    """A kernel of a look-up table: its operators and their shapes, and what it takes in ms before the correction.

    ``count`` is how many kernels of the training were it. It is ``measured`` where it was by itself, ``solved`` where
    whole networks alone say what it takes, ``estimated`` where its work and traffic do.
    """

    name: str
    shapes: str
    kind: str
    macs: int
    traffic_bytes: int
    latency_ms: float
    count: int
    source: Literal["measured", "solved", "estimated"]


# --- drift -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """A prediction that was kept, and what was measured later."""

    fingerprint: str
    latency_ms: float
    measured_ms: float
    error: float
    predicted_at: str
    measured_at: str


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Errors of predictions against later measurements: ``predicted / measured - 1``, absolute but for ``bias``.

    ``bias`` is the median of ``measured / predicted - 1``: above 0, networks are slower than predicted. Figures are
    ``None`` where ``networks`` is 0.
    """

    networks: int
    mdape: float | None = None
    within_5: float | None = None
    within_10: float | None = None
    bias: float | None = None


@dataclass(frozen=True, slots=True)
class WeekScores:
    """The summary of networks first measured in the seven days from a Monday on (a date, UTC)."""

    week: str
    summary: ScoreSummary


@dataclass(frozen=True, slots=True)
class HeldIntervals:
    """How many intervals of a stated coverage there are, and which share of them held what was measured."""

    coverage: float
    networks: int
    held: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether errors on new measurements are larger than on the holdout, by chance or not.

    The test is Mann and Whitney's, one-sided, on absolute logarithmic errors: ``p`` is the probability of errors so
    much larger if new networks were like those of the holdout; ``larger`` is the share of pairs (new, holdout) in which
    the new error is the larger one. ``too-few`` stands where fewer than 20 of either were scored.
    """

    verdict: Literal["worse", "no-worse", "too-few"]
    test: str
    scored: int
    holdout: int
    scored_mdape: float | None = None
    holdout_mdape: float | None = None
    larger: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class ReferenceDay:
    """The median of a platform's reference network over measurements of one day (UTC), and how many these are."""

    day: str
    latency_ms: float
    measurements: int


@dataclass(frozen=True, slots=True)
class ReferenceDrift:
    """The reference network over time, and how far the newest day is from the pooled latency, relative to it.

    Latencies are ratios to the reference: a device that got slower as a whole changes these days, and no ratio.
    """

    version: int
    pooled_ms: float | None
    change: float | None
    days: tuple[ReferenceDay, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How predictions of one predictor fared that were made before their networks were measured.

    ``examined`` of the platform's newest measured networks were looked at for predictions that were kept, until enough
    were scored; ``worst`` are those with the largest errors. Networks that somebody chose to measure are not drawn like
    those of the holdout: a search measures what it finds fast.
    """

    platform_id: str
    predictor_id: int
    predictor: str
    version: int
    examined: int
    summary: ScoreSummary
    intervals: tuple[HeldIntervals, ...]
    weeks: tuple[WeekScores, ...]
    worst: tuple[Score, ...]
    verdict: Verdict
    reference: ReferenceDrift
