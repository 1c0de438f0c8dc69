"""What a search asks, and tokens, awaited: methods of the client, one for each route or flow."""

from __future__ import annotations

from abc import ABC

from leti.client.calls import access, queries
from leti.client.connection import AsyncConnection
from leti.core.access import NewToken, TokenInfo, TokenRequest
from leti.core.compression import ArrayForm, Slab, SlabRequest, Widths, WidthsRequest
from leti.core.prediction import Progress
from leti.core.queries import PredictionColumns, PredictionRequest, PredictionResponse
from leti.core.searching import (
    BreakdownRequest,
    BreakdownResponse,
    Drift,
    FilterRequest,
    FilterResponse,
    KernelPrice,
    LatencyTable,
)
from leti.core.wire import Zero


class AsyncQueryMethods(ABC):
    """Methods over a connection."""

    _connection: AsyncConnection

    async def predict(
        self, request: PredictionRequest, *, measure: bool = False, on_progress: Progress | None = None
    ) -> PredictionResponse:
        """Return the latency of each network in the order of the request: measured if known, else predicted.

        What cannot be answered stands among the failures, by index. With ``measure``, what is not measured is queued.
        More networks than one request may hold are asked for in several; ``on_progress`` hears of each.
        """
        return await self._connection.run(queries.predict(request, measure, on_progress))

    async def predict_columns(
        self, request: PredictionRequest, *, measure: bool = False, on_progress: Progress | None = None
    ) -> PredictionColumns:
        """Return what :meth:`predict` does as columns, with no object a network: the form for large batches."""
        return await self._connection.run(queries.predict_columns(request, measure, on_progress))

    async def predict_arrow(self, request: PredictionRequest) -> bytes:
        """Return the answers to one request as an Arrow stream: ``pyarrow.ipc.open_stream(…)`` reads it."""
        return await self._connection.send(queries.predict_arrow(request))

    async def filter_networks(self, request: FilterRequest) -> FilterResponse:
        """Return which networks keep a limit of latency on each of several platforms."""
        return await self._connection.send(queries.filter_networks(request))

    async def break_down(self, request: BreakdownRequest) -> BreakdownResponse:
        """Return what the predicted latency of each network is made of."""
        return await self._connection.send(queries.break_down(request))

    async def latency_table(
        self,
        platform_id: str,
        space: str,
        *,
        config: str | None = None,
        zero: Zero | None = None,
        fixed: str | None = None,
    ) -> LatencyTable:
        """Return the latency of a space as a sum over its positions, with how far it is from the predictor.

        ``config`` is the JSON of a network's config, the space's own where it is left out; ``fixed`` gives positions
        one option only, as in ``0=24,1=0``.
        """
        return await self._connection.send(
            queries.latency_table(platform_id, space, {"config": config, "zero": zero, "fixed": fixed})
        )

    async def kernel_table(self, predictor_id: int) -> tuple[KernelPrice, ...]:
        """Return the prices of a look-up table."""
        return await self._connection.send(queries.kernel_table(predictor_id))

    async def latency_table_file(
        self,
        platform_id: str,
        space: str,
        form: ArrayForm = "npz",
        *,
        config: str | None = None,
        zero: Zero | None = None,
        fixed: str | None = None,
    ) -> bytes:
        """Return what :meth:`latency_table` does as a file: ``leti.predictors.array_files`` reads it, or pyarrow."""
        params = {"config": config, "zero": zero, "fixed": fixed}
        return await self._connection.send(queries.latency_table_file(platform_id, space, form, params))

    async def kernel_table_file(self, predictor_id: int, form: ArrayForm = "npz") -> bytes:
        """Return the prices of a look-up table as a file, as :meth:`latency_table_file` does."""
        return await self._connection.send(queries.kernel_table_file(predictor_id, form))

    async def slab(self, request: SlabRequest) -> Slab:
        """Return what one operator adds to a network over the product of several axes."""
        return await self._connection.send(queries.slab(request))

    async def slab_file(self, request: SlabRequest, form: ArrayForm = "npz") -> bytes:
        """Return what :meth:`slab` does as a file, as :meth:`latency_table_file` does."""
        return await self._connection.send(queries.slab_file(request, form))

    async def widths(self, request: WidthsRequest) -> Widths:
        """Return the latency at each width or rank, which of them are useful, and the largest within a limit."""
        return await self._connection.send(queries.widths(request))

    async def drift(
        self,
        platform_id: str,
        *,
        predictor_id: int | None = None,
        days: float | None = None,
        last: int | None = None,
        worst: int | None = None,
    ) -> Drift:
        """Return how predictions fared against what was measured later."""
        return await self._connection.send(
            queries.drift(platform_id, {"predictor_id": predictor_id, "days": days, "last": last, "worst": worst})
        )

    async def create_token(self, request: TokenRequest) -> NewToken:
        """Make a token; its text is answered this once. It is not repeated: each call makes another."""
        return await self._connection.send(access.create_token(request))

    async def tokens(self) -> tuple[TokenInfo, ...]:
        """Return every token without its text."""
        return await self._connection.run(access.tokens())

    async def revoke_token(self, token_id: str) -> TokenInfo:
        """End a token for good."""
        return await self._connection.send(access.revoke_token(token_id))
