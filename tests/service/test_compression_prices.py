"""Prices of compressed networks as a search asks a service for them, over a socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("scipy", reason="needs the extra `compression`")

from leti.client import LatencyClient
from leti.compression.pricing.by_service import ServicePrices
from leti.core.errors import InvalidInput, NotFound, NotPredictable
from leti.core.patches import Patch
from leti.core.queries import PredictionRequest
from leti.core.spec import NetworkSpec
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import Patching
from leti.generator.compressing.sampling import compressed_forms
from leti.generator.lowering import lower
from leti.service.server import running


@pytest.fixture(scope="module")
def base(learned):
    """The graph of a measured network."""
    fingerprint = learned.rows("SELECT fingerprint FROM measurements ORDER BY fingerprint LIMIT 1")[0][0]
    return lower(NetworkSpec.from_json(learned.store.networks.get(fingerprint).spec))


@pytest.fixture(scope="module")
def forms(base):
    """Compressed forms without operators of a kind that the base has none of, as CP's decomposition makes them."""
    kinds = {op.kind for op in base.ops}
    made = compressed_forms(base, 12, 0)
    return tuple(patch for patch, graph in made if {op.kind for op in graph.ops} <= kinds)[:5]


@pytest.fixture(scope="module")
def client(learned):
    with running(learned.settings) as url, LatencyClient(url) as found:
        yield found


def test_prices_are_what_is_measured_and_what_the_predictor_says(learned, base, forms, client):
    halves = tuple(replace(patch, precision="float16") for patch in forms[:2])
    changes = (forms[0], halves[0], Patch(), *forms[1:], halves[1])
    platform_ids = {"float32": learned.platform_id, "float16": learned.platform_id}
    costs = ServicePrices(client, platform_ids, coverage=0.8).price(base, changes)
    graphs = [Patching(base).patched(patch).graph for patch in changes]
    assert costs.macs.tolist() == [graph.macs for graph in graphs]
    asked = tuple({"graph": graph.to_json()} for graph in graphs)
    # Of a float32 platform, the graph of another precision can be asked for by a patch alone.
    floats = [i for i, patch in enumerate(changes) if not patch.precision]
    said = client.predict(PredictionRequest((learned.platform_id,), tuple(asked[i] for i in floats), coverage=0.8))
    assert [item.source for item in said.only()] == ["predicted", "measured", *["predicted"] * 4]
    assert costs.latency_ms[floats] == pytest.approx([item.latency_ms for item in said.only()])
    assert costs.high_ms[floats] == pytest.approx([item.high_ms for item in said.only()])
    assert (costs.high_ms >= costs.latency_ms).all()
    again = ServicePrices(client, {"float16": learned.platform_id}, coverage=0.8).price(base, halves)
    assert costs.latency_ms[[1, -1]] == pytest.approx(again.latency_ms)


def test_what_no_predictor_knows_has_no_price(learned, base, forms, client):
    prices = ServicePrices(client, {"float32": learned.platform_id, "full_integer": learned.platform_id})
    form = forms[0]
    with pytest.raises(NotPredictable, match=r"patches\[1\].*quantize") as caught:
        prices.price(base, (form, replace(form, precision="full_integer")))
    assert caught.value.field == "patches[1]"
    builder = GraphBuilder(base.inputs[0])
    odd = builder.graph(builder.global_mean(builder.unary("mish", builder.conv(builder.conv(0, 16, 3), 8, 1))))
    with pytest.raises(NotPredictable, match="mish"):
        prices.price(odd, (Patch(widths={0: 8}),))


def test_what_is_wrong_is_said_by_the_place_of_its_patch(learned, base, forms, client):
    prices = ServicePrices(client, {"float32": learned.platform_id})
    form = forms[0]
    with pytest.raises(InvalidInput, match=r"patches\[1\].ranks\[999\]"):
        prices.price(base, (form, Patch(ranks={999: (1,)})))
    with pytest.raises(InvalidInput, match=r"patches\[1\].precision: no platform of float16 is known \(known: float32"):
        prices.price(base, (form, Patch(precision="float16")))
    with pytest.raises(NotFound, match="elsewhere"):
        ServicePrices(client, {"float32": "elsewhere"}).price(base, (form,))
