"""The document of the API: every route says what it takes, what it answers, and how it refuses."""

from __future__ import annotations

import pytest

from leti.core.codec import from_json, to_json
from leti.core.wire import Problem
from leti.service.app import create_app
from leti.service.routes.examples import EXAMPLES

METHODS = ("get", "post", "put", "delete", "patch")


@pytest.fixture
def document(house):
    answer = house.client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield f"{method} {path}", operation


def test_every_route_of_the_service_is_there(document):
    assert sorted(name for name, _ in operations(document)) == [
        "delete /v1/devices/{name}/quarantine",
        "delete /v1/leases/{lease_id}",
        "delete /v1/tokens/{token_id}",
        "get /healthz",
        "get /metrics",
        "get /readyz",
        "get /v1/campaigns",
        "get /v1/campaigns/{campaign_id}",
        "get /v1/campaigns/{campaign_id}/failures",
        "get /v1/datasets",
        "get /v1/datasets/{dataset_id}",
        "get /v1/datasets/{dataset_id}/items",
        "get /v1/devices",
        "get /v1/failures",
        "get /v1/health",
        "get /v1/jobs",
        "get /v1/measurements",
        "get /v1/measurements/{measurement_id}",
        "get /v1/networks/{fingerprint}",
        "get /v1/networks/{fingerprint}/model",
        "get /v1/platforms",
        "get /v1/platforms/{platform_id}",
        "get /v1/platforms/{platform_id}/drift",
        "get /v1/platforms/{platform_id}/promotions",
        "get /v1/platforms/{platform_id}/tables/{space}",
        "get /v1/predictors",
        "get /v1/predictors/{predictor_id}",
        "get /v1/predictors/{predictor_id}/holdout",
        "get /v1/predictors/{predictor_id}/table",
        "get /v1/tasks",
        "get /v1/tasks/{task_id}",
        "get /v1/tasks/{task_id}/logs",
        "get /v1/tokens",
        "get /v1/uploads/{upload_id}",
        "post /v1/breakdowns",
        "post /v1/campaigns",
        "post /v1/datasets",
        "post /v1/evaluations",
        "post /v1/jobs/cancel",
        "post /v1/jobs/retry",
        "post /v1/leases",
        "post /v1/leases/{lease_id}/heartbeat",
        "post /v1/networks",
        "post /v1/platforms",
        "post /v1/platforms/{platform_id}/rollback",
        "post /v1/predictions",
        "post /v1/predictors",
        "post /v1/predictors/{predictor_id}/promote",
        "post /v1/results",
        "post /v1/results/batch",
        "post /v1/search/filter",
        "post /v1/tasks/{task_id}/cancel",
        "post /v1/tokens",
        "post /v1/uploads",
        "put /v1/devices/{name}/quarantine",
        "put /v1/devices/{name}/state",
        "put /v1/networks/{fingerprint}",
    ]


def test_every_route_documents_its_problems(document):
    for name, operation in operations(document):
        refusals = {code: answer for code, answer in operation["responses"].items() if int(code) >= 400}
        expected = {"401", "403", "422", "426", "429", "503"}
        if "requestBody" in operation:
            expected |= {"400", "413"}
        if "{" in name:
            expected |= {"404"}
        assert expected <= set(refusals), name
        for code, answer in refusals.items():
            assert list(answer["content"]) == ["application/problem+json"], name
            content = answer["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert from_json(Problem, content["example"]).status == int(code)


def test_every_route_has_examples_and_says_what_it_does(document):
    for name, operation in operations(document):
        assert operation["description"].endswith("."), name
        body = operation.get("requestBody")
        if body is not None:
            assert all(content.keys() & {"example", "examples"} for content in body["content"].values()), name
        for code, answer in operation["responses"].items():
            if int(code) < 300 and int(code) != 204:
                assert all(content.keys() & {"example", "examples"} for content in answer["content"].values()), name


def test_examples_are_what_their_types_say():
    for cls, value in EXAMPLES.items():
        assert from_json(type(value), to_json(value)) == value, cls


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_two_applications_stand_side_by_side(house):
    other = create_app(house.store, house.settings)
    assert other.openapi() == house.app.openapi()
    assert other.state.parts is not house.app.state.parts
