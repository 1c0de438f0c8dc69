"""Targets: what a platform of a real service is compressed for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

for module, extra in (("fastapi", "service"), ("torch", "compression")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.client import LatencyClient
from leti.compression.pricing.by_cells import CellTable
from leti.compression.targets import Target, target_of
from leti.core.device import Device, Platform
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.service.server import running
from leti.service.settings import Settings

BUILDER = GraphBuilder(TensorType((1, 4, 4, 2)))
NETWORK = BUILDER.graph(BUILDER.global_mean(BUILDER.conv(0, 4, 3)))


def test_a_platform_of_a_service_comes_with_those_that_differ_in_precision_alone(tmp_path: Path):
    own = Platform(Device("desk", "desktop", "soc", 2), "onnxruntime", "1.23", "cpu")
    whole = replace(own, model_precision="full_integer")
    other = replace(own, model_precision="dynamic_range", threads=2)
    with running(Settings(tmp_path, auth=False)) as url, LatencyClient(url) as client:
        for platform in (own, whole, other):
            client.register_platform(platform)
        target = target_of(own.id, client, NETWORK)
        for wrong, field in (("nowhere", "platform"), (whole.id, "platform")):
            with pytest.raises(InvalidInput) as caught:
                target_of(wrong, client, NETWORK)
            assert caught.value.field == field
    assert target.name == own.id
    assert set(target.prices) == {"float32", "full_integer"}
    assert target.model_format == "onnx"
    assert target_of(target, None, NETWORK) is target
    (prices,) = {id(each): each for each in target.prices.values()}.values()
    assert isinstance(prices, CellTable)  # no predictor is active
    assert (prices.platform, prices.runtime, len(prices)) == (own.id, "onnxruntime 1.23", 0)


def test_a_target_has_prices_of_float32():
    with pytest.raises(InvalidInput, match="float32"):
        Target("none", {})
