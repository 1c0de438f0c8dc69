"""Slabs: one operator over many shapes, priced by a predictor that prices kernels by themselves.

What a kernel adds to a network is told by predictors that are sums over kernels. Whether one is, it is asked: an
operator that stands three times in a network must have the share each time that it has where it stands alone. What
boosted trees or graph convolutions say of an operator depends on what stands around it, and is not asked for here.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, final

from leti.core.codec import LARGEST_INT
from leti.core.compression import Slab, SlabKind, SlabOperator, SlabRequest
from leti.core.device import ModelPrecision
from leti.core.errors import ArtifactError, InvalidInput, NotPredictable, TooLarge
from leti.core.graph import Graph, TensorType
from leti.core.operators import as_integer, as_integers
from leti.core.patches import Patch
from leti.core.prediction import Breakdown, Explains, Predictor
from leti.core.training import PredictorInfo
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import patched
from leti.generator.precision import quantized
from leti.service.searching.predictors import find_candidates
from leti.service.serving import LoadedPredictors
from leti.service.store import Store

MOST_CELLS: Final = 20_000
"""Combinations of one request."""

MOST_FOLLOWERS: Final = 4
LARGEST: Final = 65_536
"""Of a size or a number of channels."""

MOST_REASONS: Final = 20
"""Different reasons that are counted one by one; all others together."""

OTHERS: Final = "other reasons"

_KNOWN_AXES: Final[Mapping[SlabKind, frozenset[str]]] = {
    "conv2d": frozenset({"cin", "cout", "kernel", "stride", "size", "precision", "rank"}),
    "depthwise_conv2d": frozenset({"cin", "kernel", "stride", "size", "precision"}),
    "fully_connected": frozenset({"cin", "cout", "precision", "rank"}),
    "avg_pool2d": frozenset({"cin", "kernel", "stride", "size", "precision"}),
    "max_pool2d": frozenset({"cin", "kernel", "stride", "size", "precision"}),
}
_KNOWN_ATTRIBUTES: Final[Mapping[SlabKind, frozenset[str]]] = {
    "conv2d": frozenset({"groups", "dilations"}),
    "depthwise_conv2d": frozenset({"dilations"}),
}
_FOLLOWERS: Final = frozenset({"relu", "relu6", "relu_n1", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid"})
_BORDERS: Final = frozenset({"quantize", "dequantize"})

_OF_NETWORKS: Final = "macs: "
"""How remarks begin that are of the network as a whole: one operator is not what predictors are trained on."""


@final
class Cell(NamedTuple):
    """One combination: an operator and how it is compressed."""

    operator: SlabOperator
    cin: int
    cout: int
    kernel: int
    stride: int
    size: tuple[int, ...]
    precision: ModelPrecision
    rank: tuple[int, ...]

    def graph(self) -> Graph:
        """Return a network of nothing else; raise :class:`InvalidInput` where there is no such operator."""
        kind, batch = self.operator.kind, self.operator.input_shape[0]
        builder = GraphBuilder(TensorType((batch, *self.size, self.cin)))
        value = _PLACED[kind](builder, self)
        for follower in self.operator.followed_by:
            value = builder.unary(follower, value)
        graph = builder.graph(value)
        if self.rank:
            graph = patched(graph, Patch(ranks={0: self.rank})).graph
        if graph.macs > LARGEST_INT:
            raise TooLarge("takes more multiplications than can be counted", field="axes")
        return quantized(graph, self.precision).graph


def _conv(builder: GraphBuilder, cell: Cell) -> int:
    return builder.conv(0, cell.cout, cell.kernel, cell.stride, **cell.operator.attributes)


def _depthwise(builder: GraphBuilder, cell: Cell) -> int:
    return builder.depthwise_conv(0, cell.kernel, cell.stride, **cell.operator.attributes)


_PLACED: Final[Mapping[SlabKind, Callable[[GraphBuilder, Cell], int]]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _depthwise,
    "fully_connected": lambda builder, cell: builder.fully_connected(0, cell.cout),
    "avg_pool2d": lambda builder, cell: builder.avg_pool(0, cell.kernel, cell.stride),
    "max_pool2d": lambda builder, cell: builder.max_pool(0, cell.kernel, cell.stride),
}


@final
class Slabs:
    """Prices operators over many shapes at once."""

    def __init__(self, store: Store, loaded: LoadedPredictors) -> None:
        self._store = store
        self._loaded = loaded
        self._prices_kernels: dict[str, bool] = {}

    def slab(self, request: SlabRequest) -> Slab:
        """Return what an operator adds to a network over the product of the axes.

        Raises :class:`NotFound` for platform and predictor, :class:`InvalidInput` naming the axis or attribute,
        :class:`TooLarge`, and :class:`NotPredictable` where no predictor of the platform prices kernels by themselves.
        """
        platform = self._store.platforms.platform(request.platform_id)
        axes = _checked(request)
        info, predictor = self._choose(request)
        cells = list(_cells(request.operator, axes, platform.model_precision))
        latency_ms: list[float | None] = [None] * len(cells)
        missing: Counter[str] = Counter()
        graphs: dict[int, Graph] = {}
        for number, cell in enumerate(cells):
            try:
                graphs[number] = cell.graph()
            except InvalidInput as error:
                missing[error.message] += 1
        extrapolated: Counter[str] = Counter()
        for numbers, breakdowns in _explained(predictor, graphs, missing):
            for number, breakdown in zip(numbers, breakdowns, strict=True):
                latency_ms[number] = _price(graphs[number], breakdown)
            unknown = predictor.predict([graphs[number] for number in numbers]).unknown
            extrapolated.update(remark for said in unknown for remark in said if not remark.startswith(_OF_NETWORKS))
        return Slab(
            platform_id=request.platform_id,
            predictor_id=info.id,
            predictor=info.kind,
            version=info.version,
            axes=request.axes,
            shape=tuple(len(values) for values in axes.values()),
            latency_ms=tuple(latency_ms),
            missing=_told(missing),
            extrapolated=_told(extrapolated),
        )

    def _choose(self, request: SlabRequest) -> tuple[PredictorInfo, _PricesKernels]:
        candidates = find_candidates(self._store, request.platform_id, request.predictor_id)
        for info in candidates:
            if self._prices_kernels.get(info.artifact_sha256) is False:
                continue
            try:
                predictor = self._loaded.get(info.artifact_sha256)
                able = isinstance(predictor, Explains) and _prices_kernels(predictor)
            except (ArtifactError, NotPredictable):
                if request.predictor_id is not None:
                    raise
                continue
            self._prices_kernels[info.artifact_sha256] = able
            if able:
                return info, predictor  # type: ignore[return-value]
        kinds = ", ".join(dict.fromkeys(info.kind for info in candidates))
        raise NotPredictable(
            f"{kinds} cannot say what a kernel takes by itself",
            field="predictor_id",
            remedy="train a kind that can: lookup_table or kernel_sum",
        )


class _PricesKernels(Predictor, Explains, Protocol):
    """A predictor that prices kernels."""


def _prices_kernels(predictor: Explains) -> bool:
    """Return whether an operator has the same share wherever it stands; see the head of the file."""
    shares: list[list[float]] = []
    for count in (1, 3):
        builder, value = GraphBuilder(TensorType((1, 16, 16, 16))), 0
        for _ in range(count):
            value = builder.conv(value, 16, 3)
        (said,) = predictor.explain([builder.graph(value)])
        shares.append([share.latency_ms for share in said.shares if share.operators])
    once, thrice = shares
    return len(once) == 1 and len(thrice) == 3 and all(math.isclose(one, once[0], rel_tol=1e-6) for one in thrice)


def _checked(request: SlabRequest) -> dict[str, tuple[Any, ...]]:
    """Return the axes that vary; raise :class:`InvalidInput` naming what cannot be asked."""
    operator, dimensions = request.operator, 2 if request.operator.kind == "fully_connected" else 4
    _check_operator(operator, dimensions)
    axes = request.axes.varied()
    for name, values in axes.items():
        where = f"axes.{name}"
        if name not in _KNOWN_AXES[operator.kind]:
            known = ", ".join(sorted(_KNOWN_AXES[operator.kind]))
            raise InvalidInput(f"does not vary a {operator.kind}", field=where, remedy=f"known here: {known}")
        if len(set(values)) < len(values):
            raise InvalidInput("holds a value twice", field=where, remedy="give each once")
        for i, value in enumerate(values):
            for number in value if isinstance(value, tuple) else (value,):
                if not isinstance(number, str):
                    _check_positive(number, f"{where}[{i}]")
    if not axes:
        raise InvalidInput("must hold an axis", field="axes", remedy='as in {"cout": [8, 16, 24]}')
    cells = math.prod(len(values) for values in axes.values())
    if cells > MOST_CELLS:
        raise TooLarge(f"hold {cells} combinations", field="axes", remedy=f"at most {MOST_CELLS}", limit=MOST_CELLS)
    return axes


def _check_operator(operator: SlabOperator, dimensions: int) -> None:
    if len(operator.input_shape) != dimensions:
        said = "(batch, channels)" if dimensions == 2 else "(batch, height, width, channels)"
        raise InvalidInput(f"must be {said}", field="operator.input_shape")
    for i, number in enumerate(operator.input_shape):
        _check_positive(number, f"operator.input_shape[{i}]")
    for name in ("kernel", "stride"):
        _check_positive(getattr(operator, name), f"operator.{name}")
    if operator.channels:
        _check_positive(operator.channels, "operator.channels")
    known = _KNOWN_ATTRIBUTES.get(operator.kind, frozenset())
    for name in operator.attributes:
        if name not in known:
            remedy = f"known here: {', '.join(sorted(known)) or 'none'}"
            raise InvalidInput("is not one of the operator", field=f"operator.attributes.{name[:80]}", remedy=remedy)
    if "groups" in operator.attributes:
        groups = as_integer(operator.attributes["groups"], "operator.attributes.groups")
        _check_positive(groups, "operator.attributes.groups")
    if "dilations" in operator.attributes:
        _check_dilations(as_integers(operator.attributes["dilations"], "operator.attributes.dilations"))
    if len(operator.followed_by) > MOST_FOLLOWERS:
        raise TooLarge("holds too many operators", field="operator.followed_by", remedy=f"at most {MOST_FOLLOWERS}")
    for i, kind in enumerate(operator.followed_by):
        if kind not in _FOLLOWERS:
            remedy = f"known here: {', '.join(sorted(_FOLLOWERS))}"
            raise InvalidInput(f"{kind[:80]!r} does not follow", field=f"operator.followed_by[{i}]", remedy=remedy)


def _check_dilations(dilations: tuple[int, ...]) -> None:
    where = "operator.attributes.dilations"
    if len(dilations) != 2:
        raise InvalidInput(f"must be two numbers, not {len(dilations)}", field=where, remedy="as in [2, 2]")
    for i, number in enumerate(dilations):
        _check_positive(as_integer(number, f"{where}[{i}]"), f"{where}[{i}]")


def _check_positive(number: int, where: str) -> None:
    if not 0 < number <= LARGEST:
        raise InvalidInput(f"must be from 1 to {LARGEST}, not {number}", field=where)


def _cells(operator: SlabOperator, axes: Mapping[str, tuple[Any, ...]], precision: ModelPrecision) -> Iterator[Cell]:
    """Yield the combinations, the last axis varying fastest."""
    _, *size, channels = operator.input_shape
    for values in itertools.product(*axes.values()):
        said = dict(zip(axes, values, strict=True))
        cin = said.get("cin", channels)
        yield Cell(
            operator,
            cin,
            said.get("cout", operator.channels or cin),
            said.get("kernel", operator.kernel),
            said.get("stride", operator.stride),
            (said["size"], said["size"]) if "size" in said else tuple(size),
            said.get("precision", precision),
            said.get("rank", ()),
        )


def _explained(
    predictor: Explains, graphs: Mapping[int, Graph], missing: Counter[str]
) -> list[tuple[list[int], Sequence[Breakdown]]]:
    """Return breakdowns of all graphs in one call, or of those that have one where some have none, in few calls."""
    numbers = list(graphs)
    if not numbers:
        return []
    try:
        return [(numbers, predictor.explain(list(graphs.values())))]
    except (NotPredictable, InvalidInput) as error:
        if len(numbers) == 1:
            missing[error.message] += 1
            return []
    halves = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    return [
        found
        for half in halves
        for found in _explained(predictor, {number: graphs[number] for number in half}, missing)
    ]


def _price(graph: Graph, breakdown: Breakdown) -> float:
    """Return what the operators add; inside a network there is nothing to convert at the borders of one of them."""
    return sum(
        share.latency_ms
        for share in breakdown.shares
        if share.operators and any(graph.ops[number].kind not in _BORDERS for number in share.operators)
    )


def _told(counted: Counter[str]) -> dict[str, int]:
    told = dict(counted.most_common(MOST_REASONS))
    rest = counted.total() - sum(told.values())
    return {**told, OTHERS: rest} if rest else told
