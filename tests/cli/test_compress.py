"""``leti compress``: on this machine, then by the table that was measured, and what cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

for module, extra in (("vl_convert", "compression"), ("torch", "compression"), ("ai_edge_litert", "agent")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.cli.main import app
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.export.tflite import export_tflite
from leti.generator.weights import random_weights

NOT_MET = 3
MODEL = "small.tflite"
METHODS = ("--methods", "prune")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model: two convolutions, which is little to measure."""
    folder = tmp_path_factory.mktemp("compressed")
    builder = GraphBuilder(TensorType((1, 12, 12, 3)))
    value = builder.relu(builder.conv(builder.relu(builder.conv(0, 24, 3)), 24, 3))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 5))
    (folder / MODEL).write_bytes(export_tflite(graph, weights=random_weights(graph, 1)))
    return folder


def compress(folder: Path, *arguments: str | Path) -> Result:
    """Run the command in this process: what it stands on takes long to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.path", [*sys.path])
        return CliRunner().invoke(app, ["compress", *map(str, arguments)])


@pytest.fixture(scope="module")
def measured(folder: Path) -> Result:
    return compress(folder, MODEL, "--backend", "litert", "--budget", "1.4x", *METHODS, "--out", "out")


def result(out: Path) -> Any:
    return json.loads((out / "result.json").read_text())["compression"]


def test_network_is_compressed_here_and_the_exit_code_is_the_verdict(measured: Result, folder: Path) -> None:
    found = result(folder / "out")
    assert found["verdict"] in ("met", "missed", "infeasible"), measured.output
    assert measured.exit_code == (0 if found["verdict"] == "met" else NOT_MET)
    assert found["summary"].split()[0] in measured.output
    report = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h1>small.tflite</h1>" in report
    assert "there are no data" in report
    if found["best"] is not None:
        kept_ms = found["best"]["reading"]["latency_ms"]
        assert (kept_ms <= found["budget_ms"]) == (found["verdict"] == "met")
        assert (folder / "out" / "model.tflite").stat().st_size > 0


def test_table_alone_measures_nothing_and_says_so(measured: Result, folder: Path) -> None:
    (table,) = (folder / "out" / "work").glob("cells-*.npz")
    offline = ("--out", "offline", "--json", "said.json")
    ran = compress(folder, MODEL, "--table", table, "--budget", "1.2x", *METHODS, *offline)
    assert ran.exit_code == NOT_MET, ran.output
    said = json.loads((folder / "said.json").read_text())
    assert said["verdict"] in ("not measured", "infeasible")
    assert said["baseline"]["reading"] is None
    assert said["rounds"] == []
    assert Path(folder / said["report"]).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "leti compress --demo"),
        ((MODEL, "--budget", "2y"), "a speed-up such as 2x, or a time such as 12ms"),
        ((MODEL, "--max-drop", "200pp"), "percentage points such as 0.5pp"),
        ((MODEL, "--data", "nowhere:data"), "package.module:function"),
        ((MODEL, "--backend", "litert", "--platform", "p"), "give one of them"),
        ((MODEL, "--table", MODEL), "no table of cells"),
        (("small.json",), "give .keras, .pt2, .onnx, .tflite"),
    ],
)
def test_mistakes_are_named(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    ran = compress(folder, *arguments)
    assert isinstance(ran.exception, InvalidInput)
    assert says in str(ran.exception)
