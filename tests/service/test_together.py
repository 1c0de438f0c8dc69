"""Requests that are answered together: each is answered as if it were alone."""

from __future__ import annotations

import asyncio
import json
import threading
from contextvars import ContextVar, copy_context

import httpx
import pytest

pytest.importorskip("sklearn", reason="needs the extra boosting")
pytest.importorskip("xgboost", reason="needs the extra boosting")

from leti.core.queries import PredictionRequest
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.service import logs
from leti.service.answering.together import Need, each
from leti.service.routes import lane

SPACE = get_space("nasbench201")
PLAIN = {"content-type": "application/json"}
USUAL = {"content-type": "application/json; charset=utf-8"}


@pytest.fixture
def trained(measured):
    measured.train("xgboost")
    return measured


def requests(house, count, seed):
    """Return requests for new networks, measured ones, several at once, and some that are wrong in one way each."""
    specs = SPACE.sample(count, seed, SPACE.default_config)
    codes = ["nasbench201:" + ",".join(map(str, SPACE.encode(spec))) for spec in specs]
    known = [row[0] for row in house.rows("SELECT fingerprint FROM truths ORDER BY fingerprint")][:5]
    bodies = [{"networks": [code]} for code in (*codes, *known, codes[0])]
    bodies += [{"networks": [codes[0], "nonsense", codes[1]], "form": "columns"}, {"networks": codes, "coverage": 0.8}]
    bodies += [
        {"networks": []},
        {"networks": codes[:1], "coverage": 7},
        {"networks": [7]},
        {"networks": [specs[0].space]},
    ]
    bodies = [{"platform_ids": [house.platform_id], **body} for body in bodies]
    return [*bodies, {"platform_ids": ["nowhere"], "networks": codes[:1]}]


def told(answer):
    """Return status and body, numbers as far as sums of few and of many round alike."""
    return answer.status_code, json.loads(answer.text, parse_float=lambda digits: f"{float(digits):.9g}")


def test_one_call_answers_many_and_each_is_told_its_own(trained):
    answerer = trained.app.state.parts.answerer
    graphs = [lower(spec) for spec in SPACE.sample(6, 5, SPACE.default_config)]
    asked = [PredictionRequest((trained.platform_id,), ({"graph": graph.to_json()},)) for graph in graphs]
    contexts = [copy_context() for _ in asked]
    facts = [context.run(logs.begin) for context in contexts]
    together = each([(context, answerer.steps(one)) for context, one in zip(contexts, asked, strict=True)])
    assert [fact["networks"] for fact in facts] == [fact["predicted"] for fact in facts] == [1] * len(asked)
    assert sum("predict_s" in fact for fact in facts) == 1
    alone = trained.app.state.parts.answerer.__class__(
        trained.store, answerer._loaded, answerer._asker._models, trained.app.state.parts.settings
    )
    for graph, one, found in zip(graphs, asked, together, strict=True):
        (platform,) = found.platforms
        (said,) = alone.answer(one).platforms
        name = graph.fingerprint()
        assert list(platform.answers) == list(said.answers) == [name]
        assert platform.answers[name] == pytest.approx(said.answers[name], rel=1e-12)  # sums of few and of many round
        assert platform.unknown == said.unknown


def test_what_fails_for_many_is_sought_for_each_in_its_own_context():
    name = ContextVar("name")
    calls = []

    def find(key, asked):
        calls.append((key, list(asked)))
        if -1 in asked:
            raise ValueError("is negative")
        return [number * key for number in asked]

    def steps(number, key):
        name.set(number)
        found = yield Need(find, key, number)
        try:
            again = yield Need(find, 10, -1 if number == 3 else number)
        except ValueError:
            again = "refused"
        if number == 4:
            raise KeyError(number)
        return name.get(), found, again

    *found, bare = each(
        [(copy_context(), steps(number, key)) for number, key in ((1, 2), (2, 2), (3, 5), (-1, 2), (4, 5))]
    )
    assert found[0] == (1, 2, 10)
    assert found[1] == (2, 4, 20)
    assert found[2] == (3, 15, "refused")
    assert isinstance(found[3], ValueError)
    assert isinstance(bare, KeyError)
    assert calls[0] == (2, [1, 2, -1])
    assert (5, [3, 4]) in calls


def test_many_at_once_are_answered_as_one_after_the_other(trained):
    bodies = [json.dumps(body).encode() for body in requests(trained, 12, seed=9)]

    async def ask(headers):
        transport = httpx.ASGITransport(trained.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(
                *[client.post("/v1/predictions", content=body, headers=headers) for body in bodies]
            )

    plain = asyncio.run(ask(PLAIN))
    usual = [trained.client.post("/v1/predictions", content=body, headers=USUAL) for body in bodies]
    assert [told(one) for one in plain] == [told(one) for one in usual]
    assert {200, 404, 422} <= {one.status_code for one in plain}


def test_nobody_waits_long_for_one_who_takes_long():
    gathering = lane._Gathering(lane.ThreadPoolExecutor(lane.THREADS))
    held = threading.Event()

    def stuck(_key, asked):
        assert held.wait(60)
        return asked

    def slow():
        return (yield Need(stuck, 0, "slow"))

    def quick():
        return "quick"
        yield

    async def ask():
        first = asyncio.ensure_future(gathering.answer(slow()))
        while not gathering._turn.locked():
            await asyncio.sleep(0)
        assert await asyncio.gather(*[gathering.answer(quick()) for _ in range(2 * lane.GATHERED)]) == ["quick"] * (
            2 * lane.GATHERED
        )
        assert not first.done()
        held.set()
        assert await first == "slow"

    asyncio.run(ask())
