"""The document of the API: every route says what it takes, what it answers, and how it refuses."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from leti.core.access import ROLES
from leti.core.codec import from_json, to_json
from leti.core.wire import Network, Problem
from leti.generator.reference import reference_spec
from leti.service.app import create_app
from leti.service.catalogue import name_network, read_networks
from leti.service.gate.access import PERMISSIONS, route_name
from leti.service.gate.authentication import OPEN
from leti.service.routes.documentation import EVERYBODYS, OF_BODIES, TAGS, operations
from leti.service.routes.examples import EXAMPLES
from leti.service.routes.examples.values import ARCHITECTURE, REFERENCE

GOLDEN = Path(__file__).with_name("openapi.txt")
PROBLEM = "application/problem+json"


@pytest.fixture
def document(guarded: Any) -> dict[str, Any]:
    answer = guarded.client.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    if "$ref" not in part:
        return part
    found: Any = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict)
    return found


def named(schema: Any) -> str:
    """Return what a schema is of, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(map(named, schema["anyOf"]))
    if schema.get("type") == "array" and "items" in schema:
        return f"{named(schema['items'])}[]"
    return str(schema.get("format") or schema.get("type") or "any")


def contents(found: dict[str, Any]) -> str:
    return " or ".join(f"{named(content['schema'])} as {kind}" for kind, content in found.items())


def summary(document: dict[str, Any]) -> str:
    """Return what each operation is called, who may use it, what it takes, and what it answers."""
    entries = []
    for method, path, operation in operations(document):
        taken = [f"{one['name']}{'' if one.get('required') else '?'}" for one in operation.get("parameters", ())]
        if "requestBody" in operation:
            taken.append(contents(operation["requestBody"]["content"]))
        answers = sorted(operation["responses"].items())
        given = [f"{code} {contents(answer.get('content', {}))}".strip() for code, answer in answers if code < "300"]
        refused = [code for code, _ in answers if code >= "300"]
        who = "anybody" if operation.get("security") == [] else " ".join(operation["x-roles"])
        (tag,) = operation["tags"]
        entries.append(
            f"{method.upper()} {path}\n"
            f"    {operation['operationId']} in {tag}, for {who}\n"
            f"    takes {', '.join(taken) or 'nothing'}\n"
            f"    answers {'; '.join(given)}; refuses {' '.join(refused)}\n"
        )
    return "\n".join(sorted(entries))


def test_the_api_is_the_one_that_is_written_down(document: dict[str, Any]) -> None:
    """Whoever changes it on purpose writes it down: LETI_WRITE=1 pytest tests/service/test_openapi.py."""
    found = summary(document)
    if os.environ.get("LETI_WRITE"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found.splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_every_operation_is_in_a_described_group_and_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    described = {tag["name"] for tag in document["tags"]}
    assert described == set(TAGS)
    names = set()
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"].endswith("."), path
        assert set(operation["tags"]) <= described, path
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), path
        assert operation["operationId"] not in names, (method, path)
        names.add(operation["operationId"])
    assert document["servers"] == [{"url": "/", "description": document["servers"][0]["description"]}]


def test_every_operation_says_who_may_use_it(document: dict[str, Any], house: Any) -> None:
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert all(f"`{role}`" in scheme["description"] for role in ROLES)
    assert document["security"] == [{"token": []}]
    for method, path, operation in operations(document):
        assert set(operation["x-roles"]) == PERMISSIONS[route_name(method.upper(), path)], path
        assert (operation.get("security") == []) == (path in OPEN), path
    assert "security" not in house.client.get("/openapi.json").json()  # asks nobody for a token


def test_every_route_documents_its_problems(document: dict[str, Any]) -> None:
    for _method, path, operation in operations(document):
        refusals = {int(code): answer for code, answer in operation["responses"].items() if code >= "400"}
        expected = {*EVERYBODYS, 431}
        if "requestBody" in operation:
            expected |= {*OF_BODIES}
        if "{" in path:
            expected |= {404}
        assert expected <= set(refusals), path
        del refusals[431]  # answered before anybody reads what is asked
        for code, answer in refusals.items():
            assert answer == {"$ref": f"#/components/responses/Problem{code}"}, path
    for name, answer in document["components"]["responses"].items():
        assert list(answer["content"]) == [PROBLEM]
        content = answer["content"][PROBLEM]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert f"Problem{from_json(Problem, content['example']).status}" == name


def shown(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], list[Any]]]:
    """Yield each content of a request or an answer: where it is, its media type, its schema and its examples."""
    for method, path, operation in operations(document):
        contents = {"body": operation.get("requestBody", {}).get("content", {})}
        for code, answer in operation["responses"].items():
            contents[code] = resolved(document, answer).get("content", {})
        for place, found in contents.items():
            for kind, content in found.items():
                examples = [one["value"] for one in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                yield f"{method} {path} {place} {kind}", kind, content["schema"], examples


def test_every_content_has_examples_and_these_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    count = 0
    for place, kind, schema, examples in shown(document):
        assert examples, place
        for example in examples:
            if kind.endswith("json"):
                validator = Draft202012Validator({"components": document["components"], **schema})
                assert [error.message for error in validator.iter_errors(example)] == [], place
            else:
                assert isinstance(example, str), place
            count += 1
    assert count > 500


def test_examples_of_parameters_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    for _method, path, operation in operations(document):
        for one in operation.get("parameters", ()):
            examples = one["schema"].get("examples", [])
            assert examples or one["in"] != "path", (path, one["name"])
            for example in examples:
                assert Draft202012Validator(one["schema"]).is_valid(example), (path, one["name"])


def test_examples_are_what_their_types_say() -> None:
    for cls, value in EXAMPLES.items():
        assert from_json(type(value), to_json(value)) == value, cls


def test_the_network_of_the_examples_is_the_real_one() -> None:
    (known,) = read_networks((ARCHITECTURE,), "execute", "float32", limit=1)
    assert to_json(known.network) == to_json(EXAMPLES[Network])
    assert name_network(reference_spec(), "execute", "float32").network.fingerprint == REFERENCE


def test_schemas_are_valid_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name != "HTTPValidationError"
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        assert resolved(document, {"$ref": reference})


def test_two_applications_stand_side_by_side(house: Any) -> None:
    other = create_app(house.store, house.settings)
    assert other.openapi() == house.app.openapi()
    assert other.state.parts is not house.app.state.parts
