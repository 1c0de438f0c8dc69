"""What a search asks of the service: the latency of many networks at once, and what comes back.

Answers come in two forms. Rows (:class:`PredictionResponse`) have an object a network, columns
(:class:`PredictionColumns`) an array a quantity: neither side builds an object a network then. What cannot be answered
is said by index (:class:`ItemFailure`), and does not keep the rest from being answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from leti.core.errors import InvalidInput
from leti.core.patches import Patch
from leti.core.spec import NetworkConfig
from leti.core.wire import STRICT, NetworkInput, Problem, Zero

Form = Literal["rows", "columns"]
"""How an answer in JSON is laid out."""

Stage = Literal["read", "predict", "measure"]
"""Where an item failed: its network could not be read, not be priced, or not be queued to be measured."""


@dataclass(frozen=True, slots=True)
class Encodings:
    """Many networks of one search space: the choice at each of its positions, a vector a network.

    ``config`` says what stands around the cells, and is the space's own where it is left out.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    space: str
    vectors: tuple[tuple[int, ...], ...]
    config: NetworkConfig | None = None

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.vectors)


@dataclass(frozen=True, slots=True)
class Patches:
    """Many networks that differ little from a base: a patch a network.

    The numbers of operators in the ``changes`` are those of the base's float32 graph: of a base that is given as a
    graph, its own, and else of the graph that the service makes of it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    base: NetworkInput
    changes: tuple[Patch, ...]

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.changes)


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Networks whose latency is wanted, on one platform or several; numbered, ``encodings`` next, ``patches`` last.

    A network is a text or an object. Texts: an architecture string of NAS-Bench-201; ``"space:0,1,2,…"``, a vector of
    choices of any space in its own config; or 64 hexadecimal digits, the fingerprint of a network that the service
    knows. Objects: a spec; ``{"fingerprint": "…"}``; or ``{"graph": {…}}``, operators with their shapes and costs.
    ``predictor_id`` asks for one predictor instead of the active one of its platform.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_ids: tuple[str, ...]
    networks: tuple[NetworkInput, ...] = ()
    encodings: Encodings | None = None
    zero: Zero = "execute"
    coverage: float = 0.9
    predictor_id: int | None = None
    form: Form = "rows"
    patches: Patches | None = None

    def __len__(self) -> int:
        """Return the number of networks."""
        return len(self.networks) + sum(len(more) for more in (self.encodings, self.patches) if more is not None)


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why the network at ``index`` has no answer, on one platform, or on all of them where none is named.

    At the stage ``measure`` it has its answer, and only could not be queued to be measured.
    """

    index: int
    stage: Stage
    problem: Problem
    platform_id: str = ""


@dataclass(frozen=True, slots=True)
class PredictionItem:
    """One answer: milliseconds, the interval at the stated coverage, the source, and what the predictor did not know.

    A measured latency carries ``count``, the number of accepted measurements, and as its interval their spread. A
    predicted one carries ``distance``: above 1 the network is farther from the training than 99 % of its networks are.
    """

    fingerprint: str
    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    source: Literal["measured", "predicted"]
    predictor: str
    version: int
    unknown: tuple[str, ...]
    degenerate: bool
    count: int = 0
    distance: float = 0.0


@dataclass(frozen=True, slots=True)
class PlatformPredictions:
    """Answers on one platform in the order of the request, ``None`` for a network that failed.

    ``queued`` networks wait to be measured because of this request, ``waiting`` ones did so before.
    """

    platform_id: str
    items: tuple[PredictionItem | None, ...]
    queued: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class PredictionResponse:
    """Answers on each platform, in the order of the request, and what failed, by index."""

    platforms: tuple[PlatformPredictions, ...]
    failures: tuple[ItemFailure, ...] = ()

    def only(self) -> tuple[PredictionItem, ...]:
        """Return the answers of a request for one platform of which nothing failed.

        Raises the first failure as the error that it is, and :class:`InvalidInput` where there are several platforms.
        """
        for failure in self.failures:
            if failure.stage != "measure":
                raise failure.problem.error()
        if len(self.platforms) != 1:
            raise InvalidInput(f"there are answers of {len(self.platforms)} platforms", field="platform_ids")
        return tuple(item for item in self.platforms[0].items if item is not None)


@dataclass(frozen=True, slots=True)
class PlatformColumns:
    """Answers on one platform as columns in the order of the request; ``None`` for a network that failed.

    ``predictor`` and ``version`` are of everything that is not ``measured``. ``unknown`` holds those indices at which
    the predictor did not know something. A measured interval is the spread of ``count`` measurements, a predicted one
    is at the coverage of the whole answer.
    """

    platform_id: str
    precision: str
    predictor: str
    version: int
    latency_ms: tuple[float | None, ...]
    low_ms: tuple[float | None, ...]
    high_ms: tuple[float | None, ...]
    measured: tuple[bool, ...]
    count: tuple[int, ...]
    distance: tuple[float | None, ...]
    unknown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    queued: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class PredictionColumns:
    """Answers as columns: fingerprints by the precision of platforms' models, the indices of degenerate networks."""

    coverage: float
    fingerprints: dict[str, tuple[str | None, ...]]
    degenerate: tuple[int, ...]
    platforms: tuple[PlatformColumns, ...]
    failures: tuple[ItemFailure, ...] = ()
