"""What a compression search asks beside predictions: slabs of one operator, and which widths and ranks are worth it.

Networks that differ from a base by a patch are asked for as all others are, in a
:class:`~leti.core.queries.PredictionRequest`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from leti.core.device import ModelPrecision
from leti.core.operators import Attribute
from leti.core.queries import ItemFailure
from leti.core.wire import STRICT, NetworkInput, Zero

ArrayForm = Literal["npz", "arrow"]
"""How arrays of latencies come as a file: NumPy's arrays without pickle, or a stream in Arrow's IPC format."""

# --- slabs -----------------------------------------------------------------------------------------------------------

SlabKind = Literal["conv2d", "depthwise_conv2d", "fully_connected", "avg_pool2d", "max_pool2d"]
"""Operators that slabs are made of."""


@dataclass(frozen=True, slots=True)
class SlabOperator:
    """The operator that a slab varies; each axis replaces what is said here.

    ``input_shape`` is ``(batch, height, width, channels)``, of a fully connected layer ``(batch, channels)``. Windows
    are square and padded to ``ceil(size / stride)``. ``channels`` (0: as many as come in) are those of the output.
    ``attributes`` are ``groups`` and ``dilations`` of convolutions. ``followed_by`` names operators without parameters,
    such as ``relu``, that stand after it and may run in its kernel.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: SlabKind
    input_shape: tuple[int, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    attributes: dict[str, Attribute] = field(default_factory=dict)
    followed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlabAxes:
    """What varies; an empty axis does not, and is none of the array's.

    ``cin`` and ``cout`` are input and output channels, ``size`` the height and width of the input. ``rank`` decomposes
    the operator as a :class:`~leti.core.patches.Patch` does: ``[]`` leaves it whole, ``[r]`` and ``[r_in, r_out]`` are
    ranks.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    cin: tuple[int, ...] = ()
    cout: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    precision: tuple[ModelPrecision, ...] = ()
    rank: tuple[tuple[int, ...], ...] = ()

    def varied(self) -> dict[str, tuple[Any, ...]]:
        """Return the axes that vary by their names, in the order of the array's dimensions."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}


@dataclass(frozen=True, slots=True)
class SlabRequest:
    """One operator over the product of all axes, on one platform.

    Without ``predictor_id``, the active predictor prices where it can price kernels by themselves, else another of the
    platform that can, the best in cross-validation first.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    operator: SlabOperator
    axes: SlabAxes
    predictor_id: int | None = None


@dataclass(frozen=True, slots=True)
class Slab:
    """What an operator adds to a network in ms, row by row: the last axis varies fastest.

    The dimensions are the axes that vary, in their order, of the lengths ``shape``. What one adds is the sum over its
    kernels; what a network takes besides is not in it. ``missing`` counts, by reason, what has no price (``null``), and
    ``extrapolated``, by what the predictor has not met in training, what has one nevertheless.
    """

    platform_id: str
    predictor_id: int
    predictor: str
    version: int
    axes: SlabAxes
    shape: tuple[int, ...]
    latency_ms: tuple[float | None, ...]
    missing: dict[str, int] = field(default_factory=dict)
    extrapolated: dict[str, int] = field(default_factory=dict)


# --- widths and ranks ------------------------------------------------------------------------------------------------

Varied = Literal["width", "rank"]
"""What is varied of a network: the channels of a coupled group, or the rank that an operator is decomposed to."""


@dataclass(frozen=True, slots=True)
class WidthsRequest:
    """A network, and one of its operators whose width or rank is to be varied from ``at_least`` to ``at_most``.

    The width is that of the coupled group of channels that the operator's output belongs to. A rank decomposes the
    operator; of a convolution with a window it is Tucker's of the output, and that of the input stands to it as the
    input's channels to the output's, rounded up. ``at_most`` is by default the whole width, or the full rank less one.
    ``within_ms`` asks for the largest value whose network takes no more with a probability of ``confidence``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    platform_id: str
    base: NetworkInput
    operator: int
    vary: Varied = "width"
    at_least: int = 1
    at_most: int | None = None
    step: int = 1
    within_ms: float | None = None
    confidence: float = 0.9
    zero: Zero = "execute"
    predictor_id: int | None = None


@dataclass(frozen=True, slots=True)
class Widths:
    """The latency of the whole network at each value, in columns, ascending; ``None`` where it failed.

    ``bound_ms`` is what the latency stays under at the asked confidence, as in a
    :class:`~leti.core.searching.LimitAnswer`; ``low_ms`` and ``high_ms`` are the interval at the ``coverage`` that goes
    with it. ``useful`` are the values that are faster than every larger one; the others cost as much as one of those,
    or more. Latencies are not taken to rise with the value: each is looked at. ``largest`` is the largest value within
    the limit, ``None`` where there is none or no limit was given; ``least_bound_ms`` is the lowest bound that there is.
    """

    platform_id: str
    operator: int
    vary: Varied
    values: tuple[int, ...]
    latency_ms: tuple[float | None, ...]
    low_ms: tuple[float | None, ...]
    high_ms: tuple[float | None, ...]
    bound_ms: tuple[float | None, ...]
    measured: tuple[bool, ...]
    useful: tuple[int, ...]
    coverage: float
    confidence: float
    largest: int | None = None
    least_bound_ms: float | None = None
    predictor: str = ""
    version: int = 0
    failures: tuple[ItemFailure, ...] = ()
