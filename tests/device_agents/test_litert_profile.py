"""LiteRT's own account of what it runs."""

from __future__ import annotations

from importlib import metadata

import pytest

from leti.core.errors import MeasurementFailed, VersionMismatch

pytest.importorskip("psutil", reason="the agent extra is not installed")
pytest.importorskip("ai_edge_litert", reason="the agent extra is not installed")
pytest.importorskip("leti.device_agents.desktop.litert", reason="the agent extra is not installed")

from leti.device_agents.desktop import litert_profile
from leti.device_agents.desktop.litert_profile import profile


def test_every_kernel_is_named_and_timed(models: dict[str, bytes]) -> None:
    kernels = profile(models["large"], runs=4)
    names = [kernel.name for kernel in kernels]
    assert sum("Convolution" in name for name in names) >= 20
    assert {kernel.unit for kernel in kernels} == {"xnnpack"}
    assert {len(kernel.times_us) for kernel in kernels} == {4}
    slowest = max(kernels, key=lambda kernel: min(kernel.times_us))
    assert min(slowest.times_us) > 0
    assert "(" in slowest.name


def test_a_larger_network_has_more_kernels(models: dict[str, bytes]) -> None:
    small, large = (profile(models[name], runs=1, warmup=0) for name in ("small", "large"))
    assert len(small) < len(large)


def test_kernels_are_those_of_the_delegate_and_the_precision(models: dict[str, bytes]) -> None:
    delegated = profile(models["large"], runs=1)
    builtin = profile(models["large"], runs=1, delegate="builtin")
    half = profile(models["large"], runs=1, precision="fp16")
    assert {kernel.unit for kernel in builtin} == {"builtin"}
    assert {kernel.unit for kernel in half} == {"xnnpack"}
    assert sum(kernel.name == "CONV_2D" for kernel in builtin) >= 20
    assert not any("F16" in kernel.name for kernel in delegated)
    assert not any("F32" in kernel.name for kernel in half)
    assert sum("F16" in kernel.name for kernel in half) == sum("F32" in kernel.name for kernel in delegated)


@pytest.mark.parametrize("model", [b"", b"TFL3", b"\x1c\x00\x00\x00TFL3" + b"\x00" * 64])
def test_what_is_no_model_is_refused(model: bytes) -> None:
    with pytest.raises(MeasurementFailed) as caught:
        profile(model)
    assert caught.value.details["failure"] == "bad-model"


def test_a_version_whose_structures_are_not_known_is_refused(
    models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert_profile, "KNOWN_VERSIONS", ("1.0.",))
    with pytest.raises(VersionMismatch, match=metadata.version("ai-edge-litert")):
        profile(models["small"])
