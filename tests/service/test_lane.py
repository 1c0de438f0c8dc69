"""The short way of hot routes: it answers what the usual way answers, in the same words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import bindparam, column, literal_column, select, table

from leti.core.codec import to_json
from leti.core.errors import LetiError, StorageError
from leti.core.queries import PredictionRequest
from leti.service.answering.answers import Answer
from leti.service.answering.reading import Stored
from leti.service.answering.remembered import Predicted, RememberedPredictions
from leti.service.catalogue import decode_batch, read_batch
from leti.service.database import Database
from leti.service.prepared import Prepared
from leti.service.routes.lane import LANE, SHORT_BYTES, Lane

DATABASES = ("sqlite", "postgresql")

PLAIN = {"content-type": "application/json"}
USUAL = {"content-type": "application/json; charset=utf-8"}
"""Says the same, and is not taken for plain."""

VARYING = frozenset({"date", "x-request-id"})


def both_ways(house: Any, path: str, content: bytes) -> tuple[int, Any]:
    """Return status and body, which are the same on both ways, as are the headers."""
    plain, usual = (house.client.post(f"/v1{path}", content=content, headers=headers) for headers in (PLAIN, USUAL))
    assert plain.status_code == usual.status_code, plain.text
    assert plain.json() == usual.json()
    told = [{k: v for k, v in answer.headers.items() if k not in VARYING} for answer in (plain, usual)]
    assert told[0] == told[1]
    return plain.status_code, plain.json()


def asked(house: Any, **fields: Any) -> dict[str, Any]:
    request = PredictionRequest((house.platform_id,), (house.architecture, "nonsense"))
    return {**to_json(request), **fields}


def way(house: Any, method: str = "POST", path: str = "/v1/predictions", query: bytes = b"", **headers: str) -> bool:
    """Return whether a request goes the short way."""
    (lane,) = (route for route in house.app.routes if isinstance(route, Lane))
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": raw}
    return bool(lane.matches(scope)[1])


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{}", 422),
        (b"[1]", 422),
        (b'{"platform_ids": ["nowhere"], "networks": ["x"]}', 404),
        (b'{"platform_ids": [', 400),
        (b"\xff\xfe{", 400),
        (b"[" * 10_000, 400),
    ],
)
def test_what_is_wrong_is_said_in_the_same_words(house: Any, content: bytes, status: int) -> None:
    assert both_ways(house, "/predictions", content)[0] == status


@pytest.mark.sqlite
def test_both_ways_answer_alike(measured: Any) -> None:
    known = measured.rows("SELECT fingerprint FROM truths")[0][0]
    for form in ("rows", "columns"):
        status, answer = both_ways(
            measured, "/predictions", json.dumps(asked(measured, networks=[known, "x"], form=form)).encode()
        )
        assert status == 200
        assert [failure["index"] for failure in answer["failures"]] == [1]
    headers = {**PLAIN, "accept": "text/html"}
    content = json.dumps(asked(measured)).encode()
    assert measured.client.post("/v1/predictions", content=content, headers=headers).status_code == 406


def test_results_are_taken_on_both_ways(house: Any) -> None:
    house.add_campaign(count=1)
    lease = house.lease()
    result = json.dumps(to_json(house.result(lease, lease.jobs[0]))).encode()
    assert len(result) < SHORT_BYTES
    answers = [house.client.post("/v1/results", content=result, headers=headers) for headers in (PLAIN, USUAL)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, again = (answer.json() for answer in answers)
    assert first.keys() == again.keys()
    assert first["measurement_id"] == again["measurement_id"]


@pytest.mark.sqlite
def test_only_plain_requests_are_taken(house: Any) -> None:
    plain = {"content_type": "application/json", "content_length": "2"}
    assert [way(house, *f"{name}".replace(" /", " /v1/").split(), **plain) for name in LANE] == [True] * len(LANE)
    for method, path in (("GET", "/v1/predictions"), ("POST", "/v1/predictions/"), ("POST", "/predictions")):
        assert not way(house, method, path, **plain)
    assert not way(house, query=b"wait=measure", **plain)
    for odd in ({"content_type": "text/plain"}, {"content_length": "0"}, {"content_length": "x"}):
        assert not way(house, **{**plain, **odd})
    assert way(house, **{**plain, "content_length": str(SHORT_BYTES)})
    assert not way(house, **{**plain, "content_length": str(SHORT_BYTES + 1)})
    assert not way(house, content_type="application/json", transfer_encoding="chunked")


@pytest.mark.sqlite
def test_a_few_predictions_are_remembered_by_what_they_are_of() -> None:
    vectors = [(i, 0, 0, 0, 0, 0) for i in range(5)]
    read = decode_batch("nasbench201", vectors, None, "execute", "float32", limit=9)
    networks = [item for item in read if not isinstance(item, LetiError)]
    said = [Predicted(Answer(float(i), 0.0, 9.0, False, 0, 0.0), ()) for i in range(5)]
    memory = RememberedPredictions(most=4)
    memory.put_all("a", 0.9, zip(networks[:2], said, strict=False))
    assert memory.get_all("a", 0.9, {"x": networks[0], "y": networks[2]}) == {"x": said[0]}
    assert memory.get_all("b", 0.9, {"x": networks[0]}) == memory.get_all("a", 0.8, {"x": networks[0]}) == {}
    memory.put_all("a", 0.9, zip(networks[2:3], said[2:], strict=False))
    memory.get_all("a", 0.9, {"x": networks[0]})  # asked for meanwhile, so kept
    memory.put_all("a", 0.9, zip(networks[3:], said[3:], strict=False))
    found = memory.get_all("a", 0.9, {str(i): network for i, network in enumerate(networks)})
    assert {"0", "4"} <= found.keys() < {"0", "1", "2", "3", "4"}
    (spec,) = read_batch([networks[4].spec.to_json()], "execute", "float32", limit=1)
    assert memory.get_all("a", 0.9, {"x": spec}) == {"x": said[4]}  # by its choices: specs would fill the memory
    graph = Stored(networks[0].fingerprint, networks[0].graph, False, None)  # without a space, if of one fingerprint
    assert memory.get_all("a", 0.9, {"x": graph}) == {}


def test_prepared_statements_are_run_and_their_errors_translated(house: Any) -> None:
    database: Database = house.store._database
    doubled = Prepared(database, select(literal_column("2") * bindparam("number", type_=None).op("+")(0)))
    missing = Prepared(database, select(column("x")).select_from(table("nowhere")).where(column("x") == bindparam("x")))
    for _ in range(60):  # more than there are connections
        with pytest.raises(StorageError, match="nowhere"):
            missing(x=1)
    assert list(map(tuple, doubled(number=21))) == [(42,)]
