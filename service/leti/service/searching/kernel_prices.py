"""Prices of kernels: the table that a look-up table predictor sums up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, final, runtime_checkable

from leti.core.errors import NotPredictable
from leti.core.searching import KernelPrice
from leti.core.training import PredictorInfo
from leti.service.serving import LoadedPredictors
from leti.service.store import Store

if TYPE_CHECKING:
    from leti.predictors.lookup.table import TableRow


@runtime_checkable
class _HasTable(Protocol):
    def table(self) -> Sequence[TableRow]: ...


@final
class KernelPrices:
    """Reads the tables of predictors that have one."""

    def __init__(self, store: Store, loaded: LoadedPredictors) -> None:
        self._store = store
        self._loaded = loaded

    def predictor(self, predictor_id: int) -> PredictorInfo:
        """Return what is known of a predictor; raise :class:`NotFound`."""
        return self._store.predictors.get(predictor_id)

    def prices(self, info: PredictorInfo) -> tuple[KernelPrice, ...]:
        """Return a predictor's kernels, the dearest first; raise :class:`NotPredictable` where it has no table."""
        predictor = self._loaded.get(info.artifact_sha256)
        if not isinstance(predictor, _HasTable):
            raise NotPredictable(
                f"the kind {info.kind!r} has no table of kernels",
                field="predictor_id",
                remedy="name one of kind lookup_table; leti train --kind lookup_table makes one",
            )
        rows = sorted(predictor.table(), key=lambda row: (-row.latency_ms, row.key))
        return tuple(
            KernelPrice(
                row.name, row.shapes, row.kind, row.macs, row.traffic_bytes, row.latency_ms, row.count, row.source
            )
            for row in rows
        )
