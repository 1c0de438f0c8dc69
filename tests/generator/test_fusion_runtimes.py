"""Fusion rules against what the runtimes really do; ``benchmarks/kernels.py`` does it with more networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("leti.device_agents.desktop.litert", reason="the agent extra is not installed")


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "kernels.py"
    spec = importlib.util.spec_from_file_location("leti_benchmark_kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "fbnet", "mobilenetv3", "chains", "darts"])
def test_litert_runs_the_kernels_that_the_rules_expect(kernels: ModuleType, space: str) -> None:
    for name, graph in kernels.networks([space], 2):
        assert (name, kernels.difference("litert", graph)) == (name, "")


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201", "fbnet", "mobilenetv3", "chains", "darts"])
def test_onnx_runtime_runs_the_kernels_that_the_rules_expect(kernels: ModuleType, space: str) -> None:
    """Blocks of 16 channels are those of AVX-512; with others, another set of convolutions takes sums."""
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file() or "avx512f" not in cpu.read_text():
        pytest.skip("the rules are those of a processor with AVX-512")
    for name, graph in kernels.networks([space], 2):
        assert (name, kernels.difference("onnxruntime", graph)) == (name, "")


def test_the_comparison_finds_what_a_wrong_rule_expects(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from leti.generator import fusion

    monkeypatch.setattr(fusion, "RULES", {"litert": (), "onnxruntime": ()})
    ((_, graph),) = kernels.networks(["nasbench101"], 1)
    assert "'Clamp'" in kernels.difference("litert", graph)
    assert "Conv+Relu" in kernels.difference("onnxruntime", graph)
