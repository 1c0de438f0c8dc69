"""The client that waits and the one that awaits are one client, and know every route of the service."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest

from leti.client import AsyncLatencyClient, LatencyClient
from leti.client.calls import access, farm, learning, networks, queries
from leti.core.errors import NotFound
from leti.core.queries import Encodings, PredictionRequest
from leti.core.wire import NetworksRequest

SUBJECTS = (networks, farm, learning, queries, access)
UNCALLED = {
    "GET /healthz": "for probes",
    "GET /readyz": "for probes",
    "GET /metrics": "for Prometheus",
    "PUT /v1/networks/{fingerprint}": "POST /v1/networks does as much, in bulk",
}
PAGES = ("/docs", "/dashboard")
"""What browsers open."""


def methods(cls):
    return {
        name: value
        for name, value in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and name != "close"
    }


def test_both_clients_have_the_same_methods():
    waiting, awaiting = methods(LatencyClient), methods(AsyncLatencyClient)
    assert waiting.keys() == awaiting.keys()
    for name, method in waiting.items():
        assert inspect.signature(method) == inspect.signature(awaiting[name]), name
        assert inspect.getdoc(method) == inspect.getdoc(awaiting[name]), name
        assert inspect.iscoroutinefunction(awaiting[name]), name


def test_every_route_can_be_called():
    fastapi = pytest.importorskip("fastapi", reason="the service's extra is not installed")
    assert fastapi
    from leti.service.gate.access import PERMISSIONS

    text = "".join(inspect.getsource(subject) for subject in SUBJECTS)
    written = set()
    for method, path in re.findall(r'Call\(\s*"([A-Z]+)", f?"(/v1[^"]*)"', text):
        written.add((method, path))
    for maker, path in re.findall(r'\b(get|every|post)\([^"]*?f?"(/v1[^"]*)"', text):
        written.add(("POST" if maker == "post" else "GET", path))
    for path in re.findall(r'path = f?"(/v1[^"]*)"', text):
        written |= {("GET", path), ("POST", path)}
    called = {f"{method} {re.sub(r'{[^}]*}', '{}', path)}" for method, path in written}
    for route in PERMISSIONS:
        method, _, path = route.partition(" ")
        if path.startswith(PAGES) or path in ("/", "/healthz", "/readyz", "/metrics"):
            continue
        if f"{method} /v1{path}" in UNCALLED:
            continue
        assert f"{method} {re.sub(r'{[^}]*}', '{}', '/v1' + path)}" in called, route


def test_answers_are_the_same_awaited(service_url, platform):
    cells = ("nasbench201:0,1,2,3,4,3", "nasbench201:3,3,3,3,3,3")

    async def awaited():
        async with AsyncLatencyClient(service_url) as client:
            info = await client.register_platform(platform)
            known, health, platforms = await asyncio.gather(
                client.add_networks(NetworksRequest(cells)), client.health(), client.platforms()
            )
            with pytest.raises(NotFound) as caught:
                await client.predict(PredictionRequest(("nowhere",), cells))
            model = await client.model(known[0].fingerprint)
            return info, known, health, platforms, model, caught.value.field

    info, known, health, platforms, model, field = asyncio.run(awaited())
    with LatencyClient(service_url) as client:
        assert client.register_platform(platform) == info
        assert client.add_networks(NetworksRequest(cells)) == known
        assert client.health() == health
        assert {one.id for one in client.platforms()} >= {one.id for one in platforms}
        assert client.model(known[0].fingerprint) == model
        with pytest.raises(NotFound) as caught:
            client.predict(PredictionRequest(("nowhere",), encodings=Encodings("nasbench201", ((0, 1, 2, 3, 4, 3),))))
    assert caught.value.field == field
