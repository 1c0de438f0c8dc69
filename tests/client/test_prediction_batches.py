"""Large requests for predictions are split into parts that the service takes."""

from __future__ import annotations

from typing import Any

import pytest

from leti.client import prediction_batches
from leti.client.exchange import encoded
from leti.client.prediction_batches import split
from leti.core.errors import InvalidInput
from leti.core.queries import Encodings, PredictionRequest
from leti.core.wire import NetworkInput

GRAPH: dict[str, Any] = {"graph": {"ops": ["x" * 80]}}


def test_a_body_is_kept_small_where_graphs_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_batches, "BATCH", 6)
    monkeypatch.setattr(prediction_batches, "BYTES", 3 * (len(encoded(GRAPH)) + 1))
    networks: tuple[NetworkInput, ...] = (*["a"] * 8, *[GRAPH] * 7, "b")
    request = PredictionRequest(("p",), networks, Encodings("nasbench201", ((1,),) * 3))
    parts = list(split(request))
    assert [network for part in parts for network in part.request.networks] == list(networks)
    assert [(part.start, len(part.request)) for part in parts] == [(0, 6), (6, 4), (10, 3), (13, 6)]
    assert [len(part.request.encodings or ()) for part in parts] == [0, 0, 0, 3]


def test_one_that_is_too_large_by_itself_is_the_services_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_batches, "BYTES", 10)
    assert [len(part.request) for part in split(PredictionRequest(("p",), (GRAPH, GRAPH)))] == [1, 1]
    with pytest.raises(InvalidInput):
        list(split(PredictionRequest(("p",), ({"graph": {1, 2}},))))
