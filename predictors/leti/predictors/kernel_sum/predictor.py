"""Kernel-level sum: each kernel is priced by its own properties, and a network costs what its kernels do together.

Zhang et al., "nn-Meter: Towards Accurate Latency Prediction of Deep-Learning Model Inference on Diverse Edge Devices"
(MobiSys 2021), train a regressor a kind of kernel on kernels that were measured one by one. So does this predictor
where measured kernels are given (:mod:`leti.predictors.kernel_sum.forest`). Usually there are none: then the prices of
all kernels are solved from the latencies of whole networks at once, each a non-negative combination of the kernel's
MACs, bytes and the like (:data:`~leti.predictors.kernel_sum.costs.COSTS`).

Prices are learnt from the coarse to the fine: one list for all kernels, from it one a kind, from that one a family; a
family with few examples stays close to its kind, and a kind to the whole. So no kernel is priced by nothing, and one
that training never saw is priced by its kind, or by all kernels, and said to be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Final, final

from typing_extensions import override

from leti.core.codec import Json
from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.prediction import Share
from leti.predictors.additive import FLOOR
from leti.predictors.batch import Batch, Ints, Kernel, Vector
from leti.predictors.calibrated import Arrays, CalibratedPredictor, Model
from leti.predictors.calibrated import Examples as _Examples
from leti.predictors.division import Memory
from leti.predictors.kernel_sum.costs import COSTS, KernelEncoder, Kernels
from leti.predictors.kernel_sum.forest import Forests
from leti.predictors.kernel_sum.prices import Prices, solve_prices
from leti.predictors.kernel_sum.robust import fit_prices
from leti.predictors.splits import cross_splits

with needs("boosting"):
    import numpy as np
    from scipy import sparse

STRENGTHS: Final = (1e-2, 1e-4, 1e-6)
"""How hard the prices of a family are held to those of its kind, and a kind's to those of all kernels."""

MIN_MEASURED: Final = 20
"""Fewest different kernels with times of their own that are worth learning from."""

_FOLDS: Final = 3

Examples = _Examples[KernelEncoder, Kernels]


@final
@dataclass(frozen=True, eq=False)
class PricedKernels(Model[Kernels]):
    """Prices of kernels, and forests that correct them where kernels were measured; ``scale`` and an overhead in ms.

    ``scale`` is what a kernel takes among others, for each millisecond that it takes as its runtime measured it: 1
    where prices come from whole networks.
    """

    prices: Prices
    forests: Forests
    scale: float
    overhead_ms: float
    floor_ms: float

    def kernels_ms(self, kernels: Kernels) -> Vector:
        """Return what each distinct kernel adds to a network, ``(distinct,)`` in ms."""
        known = self._known.look_up(kernels.kernels, lambda missing: self._price(kernels, missing))
        return np.array(known, dtype=np.float64)

    @cached_property
    def _known(self) -> Memory[Kernel, float]:
        """What each kernel adds."""
        return Memory()

    def _price(self, kernels: Kernels, wanted: Sequence[Kernel]) -> list[float]:
        """Return what those of the distinct kernels that are wanted add."""
        each = (self.scale * self.prices.of(kernels) * self.forests.factors(kernels)).tolist()
        of_kernel = dict(zip(kernels.kernels, each, strict=True))
        return [of_kernel[kernel] for kernel in wanted]

    @override
    def latencies_ms(self, encoded: Kernels) -> Vector:
        summed = encoded.counts @ self.kernels_ms(encoded) + self.overhead_ms
        latency: Vector = np.maximum(summed, self.floor_ms)
        return latency

    @override
    def unknown(self, encoded: Kernels) -> Sequence[tuple[str, ...]]:
        if not any(encoded.strange):
            return ()
        parts = zip(encoded.starts.tolist(), (encoded.starts + encoded.lengths).tolist(), strict=True)
        said = [{encoded.strange[number] for number in encoded.sequence[start:end].tolist()} for start, end in parts]
        return [tuple(sorted(of_one - {""})) for of_one in said]

    @override
    def shares(self, encoded: Kernels, batch: Batch, encoder: Any) -> Sequence[tuple[Share, ...]]:
        """Return a share a kernel in the order in which they run, and one for the overhead."""
        prices = self.kernels_ms(encoded)[batch.numbers].tolist()
        names = [batch.kernels[number].family for number in batch.numbers.tolist()]
        first = np.searchsorted(batch.op_graphs, np.arange(len(batch)))
        local = np.arange(len(batch.codes)) - first[batch.op_graphs]
        order = np.argsort(batch.op_kernels, kind="stable")
        members = np.split(local[order], np.cumsum(np.bincount(batch.op_kernels, minlength=len(prices)))[:-1])
        shares = [
            Share(name, price, tuple(of_one.tolist()))
            for name, price, of_one in zip(names, prices, members, strict=True)
        ]
        latencies = self.latencies_ms(encoded).tolist()
        ends = (batch.starts + batch.lengths).tolist()
        found = []
        for start, end, latency in zip(batch.starts.tolist(), ends, latencies, strict=True):
            rest = latency - sum(share.latency_ms for share in shares[start:end])
            found.append((*shares[start:end], Share("overhead", rest)))
        return found

    @override
    def to_parts(self) -> tuple[Json, Arrays, Mapping[str, bytes]]:
        data = {
            "kinds": self.prices.kinds,
            "scale": self.scale,
            "overhead_ms": self.overhead_ms,
            "floor_ms": self.floor_ms,
            "forests": self.forests.to_json(),
        }
        return data, {"prices": self.prices.table, **self.forests.to_arrays()}, {}


@final
class KernelSumPredictor(CalibratedPredictor[KernelEncoder, Kernels]):
    """A price for each kernel by its kind, shapes and costs, added up, and an overhead."""

    kind: ClassVar[str] = "kernel_sum"
    encoder_type: ClassVar[type[Any]] = KernelEncoder

    @override
    def learn_encoder(self, batch: Batch) -> KernelEncoder:
        return KernelEncoder.learn(batch)

    @override
    def learn(self, examples: Examples, *, seed: int) -> Model[Kernels]:
        ways: list[Callable[[Examples], PricedKernels]] = [
            partial(_from_networks, strength=strength) for strength in STRENGTHS
        ]
        if len(_measured(examples)[0]) >= MIN_MEASURED:
            ways.append(partial(_from_kernels, seed=seed))
        if len(set(examples.groups)) < 2:
            return ways[0](examples)
        errors = np.zeros(len(ways))
        for rest, fold in cross_splits(examples.groups, _FOLDS, seed=seed):
            held = examples.part(fold)
            for i, way in enumerate(ways):
                off = np.log(way(examples.part(rest)).latencies_ms(held.encoded) / held.latencies_ms)
                errors[i] += np.minimum(np.abs(off), 0.5).sum()  # a stray counts as a miss, not for how far it lies
        return ways[int(errors.argmin())](examples)

    @classmethod
    @override
    def read_model(cls, data: Json, arrays: Arrays, files: Mapping[str, bytes]) -> Model[Kernels]:
        table, kinds = arrays["prices"], int(data["kinds"])
        if table.ndim != 2 or table.shape[1] != len(COSTS) or not 0 <= kinds < len(table):
            raise ArtifactError("do not fit the costs of a kernel", field="prices")
        return PricedKernels(
            Prices(table, kinds),
            Forests.read(data["forests"], arrays, len(table) - 1 - kinds, len(COSTS)),
            float(data["scale"]),
            float(data["overhead_ms"]),
            float(data["floor_ms"]),
        )


def _from_networks(examples: Examples, *, strength: float) -> PricedKernels:
    """Solve the prices from the latencies of whole networks."""
    kernels, latencies = examples.encoded, examples.latencies_ms
    prices, overhead = solve_prices(
        kernels.counts, latencies, kernels, _shape(examples.encoder), strength, overhead=True
    )
    return PricedKernels(prices, Forests({}), 1.0, overhead, FLOOR * float(latencies.min()))


def _from_kernels(examples: Examples, *, seed: int) -> PricedKernels:
    """Learn the prices from measured kernels; then a factor and an overhead from the latencies of whole networks."""
    kernels, latencies = examples.encoded, examples.latencies_ms
    measured, times = _measured(examples)
    if len(measured) < MIN_MEASURED:  # a fold may hold nearly all of them
        return _from_networks(examples, strength=STRENGTHS[0])
    one_each = sparse.csr_array(
        (np.ones(len(measured)), (np.arange(len(measured)), measured)), shape=(len(measured), len(kernels.costs))
    )
    prices, _ = solve_prices(one_each, times, kernels, _shape(examples.encoder), STRENGTHS[1], overhead=False)
    alone = np.maximum(prices.of(kernels)[measured], 1e-9)
    forests = Forests.grow(kernels, measured, times / alone, seed=seed)
    summed = kernels.counts @ (prices.of(kernels) * forests.factors(kernels))
    rows = np.column_stack([summed, np.ones(len(summed))])
    scale, overhead = fit_prices(rows, latencies, np.array([1.0, 0.0]), 1e-6).tolist()
    return PricedKernels(prices, forests, scale, overhead, FLOOR * float(latencies.min()))


def _measured(examples: Examples) -> tuple[Ints, Vector]:
    """Return the numbers of the distinct kernels that were measured, and the median time of each in ms."""
    kernels = examples.encoded
    numbers, times = [], []
    for row, of_graph in enumerate(examples.operator_times or ()):
        if of_graph is not None:
            start = kernels.starts[row]
            numbers.append(kernels.sequence[start : start + kernels.lengths[row]])
            times.append(np.asarray(of_graph, dtype=np.float64))
    if not numbers:
        return np.empty(0, dtype=np.int64), np.empty(0)
    number, time = np.concatenate(numbers), np.concatenate(times)
    number, time = number[time > 0], time[time > 0]  # shorter than the runtime's clock can tell
    order = np.lexsort((time, number))
    distinct, first, count = np.unique(number[order], return_index=True, return_counts=True)
    middle = time[order][first + count // 2]
    return distinct, middle


def _shape(encoder: KernelEncoder) -> tuple[int, int]:
    return len(encoder.kinds), len(encoder.families)
