"""Fusion rules against what the runtimes really do; ``benchmarks/kernels.py`` does it with more networks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("leti.device_agents.desktop.litert", reason="the agent extra is not installed")
import kernels

from leti.generator import fusion


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "fbnet", "mobilenetv3", "chains", "darts"])
def test_litert_runs_the_kernels_that_the_rules_expect(space: str) -> None:
    for name, graph in kernels.networks([space], 2):
        assert (name, kernels.difference("litert", graph)) == (name, "")


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "fbnet", "mobilenetv3", "chains", "darts"])
def test_onnx_runtime_runs_the_kernels_that_the_rules_expect(space: str) -> None:
    """Blocks of 16 channels are those of AVX-512; with others, another set of convolutions takes sums."""
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file() or "avx512f" not in cpu.read_text():
        pytest.skip("the rules are those of a processor with AVX-512")
    for name, graph in kernels.networks([space], 2):
        assert (name, kernels.difference("onnxruntime", graph)) == (name, "")


def test_the_comparison_finds_what_a_wrong_rule_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, graph),) = kernels.networks(["nasbench101"], 1)  # before: parts are remembered with their kernels
    monkeypatch.setattr(fusion, "RULES", {"litert": (), "onnxruntime": ()})
    monkeypatch.setattr(fusion, "_indexed", fusion._indexed.__wrapped__)  # which remembers the rules that it read
    assert "'Clamp'" in kernels.difference("litert", graph)
    assert "Conv+Relu" in kernels.difference("onnxruntime", graph)
