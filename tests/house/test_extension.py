"""Somebody else's package: examples/extension is installed beside LETI, and LETI's own suites run what it brings."""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from leti.cli.processes import LetiProcess, ServiceProcess
from leti.client import LatencyClient
from leti.core.errors import InvalidInput
from leti.core.farm import CampaignRequest, Sample
from leti.core.queries import PredictionRequest
from leti.core.spec import NetworkConfig

pytestmark = pytest.mark.timeout(900)  # on a busy machine; half a minute on a free one

ROOT = Path(__file__).parents[2]
SUITES = {
    "tests/generator/test_spaces.py": "chain",
    "tests/predictors/test_conformance.py": "least_squares",
    "tests/device_agents/test_backends.py": "litert-reference",
}
"""The suite of each promise, and the name under which the package keeps it."""

UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package into a folder of its own; return the folder."""
    for module in ("hatchling", "numpy", "scipy", "ai_edge_litert", "flatbuffers", "fastapi"):
        pytest.importorskip(module, reason=f"the extension needs {module}: leti[all,dev]")
    if importlib.util.find_spec("leti_example"):
        pytest.skip("leti-example is installed in this environment already")
    folder = tmp_path_factory.mktemp("somebody else")
    source, target = folder / "source", folder / "installed"
    shutil.copytree(ROOT / "examples" / "extension", source)
    if UV is not None:
        install = [UV, "pip", "install", "--python", sys.executable, "--no-cache"]
    elif importlib.util.find_spec("pip"):
        install = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir"]
    else:
        pytest.skip("neither uv nor pip is installed")
    install += ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    ran = subprocess.run(install, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return target


@pytest.fixture
def run(extension: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run Python in an environment where the package is installed."""
    beside = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(extension), beside))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def python(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)

    return python


def test_the_page_on_extending_is_true() -> None:
    pytest.importorskip("numpy", reason="the page names classes that need the extra `boosting`")
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    project = (ROOT / "examples" / "extension" / "pyproject.toml").read_text(encoding="utf-8")
    (entries,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert entries in project
    quoted = re.findall(r"`([^`\n]+)`", page)
    paths = [text for text in quoted if re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)+(\.py)?", text)]
    assert set(SUITES) < set(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    tables = re.findall(r"`([A-Z_]{3,})`\s+in\s+`([^`]+)`", page)
    assert [name for name, _ in tables] == ["OPERATORS", "FORMS", "SPACES", "PREDICTORS", "BACKENDS"]
    for name, path in tables:
        assert re.search(rf"^{name}\b.*= ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), path
    for text in quoted:
        if text.startswith("leti.") and text.count(".") > 1:
            pkgutil.resolve_name(text)  # a class, by its module


def test_it_keeps_every_promise(run: Run) -> None:
    ran = run("-m", "pytest", "-v", "-p", "no:cacheprovider", *SUITES, "-k", " or ".join(SUITES.values()))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed: Counter[str] = Counter()
    for line in ran.stdout.splitlines():
        suite = line.partition("::")[0]
        if f"[{SUITES.get(suite)}" in line and " PASSED " in line:
            passed[suite] += 1
    assert "skipped" not in ran.stdout.splitlines()[-1], ran.stdout
    assert all(passed[suite] >= 10 for suite in SUITES), passed


def test_its_predictor_is_judged_beside_the_others(run: Run, tmp_path: Path) -> None:
    from leti.generator.lowering import lower
    from leti.generator.spaces.nasbench201 import NasBench201, architecture_of

    rows = ["arch,ms"]
    for i, spec in enumerate(NasBench201().sample(120, 0, NetworkConfig())):
        graph = lower(spec)
        latency_ms = (0.2 + graph.macs / 2e7 + 0.02 * len(graph.ops)) * (1 + 0.02 * (i % 3 - 1))
        rows.append(f"{architecture_of(spec)},{latency_ms}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    arguments = ("--table", "table.csv", "--latency-column", "ms", "--train", "80", "--zero", "execute")
    chosen = ("--predictors", "flops,least_squares", "--json", "out.json")
    ran = run("-m", "leti.cli", "evaluate", *arguments, *chosen, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    judged = json.loads((tmp_path / "out.json").read_text())["predictors"]
    assert list(judged) == ["flops", "least_squares"]
    assert judged["least_squares"]["within_5"] == 1.0  # the table is a sum over MACs and operators, give or take 2 %
    assert judged["least_squares"]["mdape"] < judged["flops"]["mdape"]


SAVE = """
import sys
from pathlib import Path
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors import artifacts, registry

graphs = [lower(spec) for spec in get_space("chain").sample(30, 0, NetworkConfig())]
predictor = registry.create("least_squares").fit(graphs, [1 + graph.macs / 1e6 for graph in graphs])
artifacts.save(predictor, Path(sys.argv[1]))
"""

LOAD = """
import sys
from pathlib import Path
from leti.core.errors import MissingExtra
from leti.predictors import artifacts

try:
    print("loaded", artifacts.load(Path(sys.argv[1])).kind)
except MissingExtra as missing:
    print("missing", missing)
"""


def test_its_predictors_are_not_loaded_without_it_and_say_why(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("-c", SAVE, tmp_path / "saved")
    assert ran.returncode == 0, ran.stderr
    assert run("-c", LOAD, tmp_path / "saved").stdout == "loaded least_squares\n"
    monkeypatch.delenv("PYTHONPATH")
    without = run("-c", LOAD, tmp_path / "saved").stdout
    assert without.startswith("missing kind: a predictor of kind 'least_squares' comes with leti-example 1.0.0, ")


def test_an_agent_lists_its_backend_among_those_that_it_knows(run: Run) -> None:
    ran = run("-m", "leti.cli", "agent", "run", "--backend", "tensorrt")
    assert ran.returncode == 2
    known = "litert, onnxruntime, openvino, pytorch, litert-reference"
    assert ran.stderr == f"leti: backend: there is no backend 'tensorrt' (one of {known})\n"


def test_its_networks_are_measured_on_its_backend(run: Run, tmp_path: Path) -> None:
    """From the campaign to the answer, over REST: its space in the service, its backend in the agent."""
    sample = Sample("chain", 2, 0, NetworkConfig(input_shape=(8, 8, 3)))
    arguments = ["agent", "run", "--backend", "litert-reference", "--spool", str(tmp_path / "spool"), "--url"]
    with (
        ServiceProcess(tmp_path / "home") as service,
        LatencyClient(service.url) as client,
        LetiProcess([*arguments, service.url], log=tmp_path / "agent.log") as agent,
    ):
        _wait(agent, lambda: bool(client.platforms()))
        (info,) = client.platforms()
        assert (info.platform.runtime, info.platform.delegate) == ("litert", "reference")
        campaign = client.create_campaign(CampaignRequest("chains", info.id, (sample,), repeats=1))
        _wait(agent, lambda: client.campaign(campaign.id).finished)
        assert (client.campaign(campaign.id).failed, client.campaign(campaign.id).poison) == (0, 0)
        rows = client.measurements(platform_id=info.id).items
        networks = [client.network(row.fingerprint) for row in rows]
        assert len(networks) == 2
        assert {network.space for network in networks} == {"chain"}
        if not any(row.noisy for row in rows):
            answer = client.predict(PredictionRequest((info.id,), (networks[0].spec,))).only()[0]
            assert (answer.source, answer.fingerprint) == ("measured", networks[0].fingerprint)
        wrong = {
            **networks[0].spec,
            "layers": ["input", *["conv7x7_x1"] * (len(networks[0].spec["layers"]) - 2), "output"],
        }
        with pytest.raises(InvalidInput, match="conv7x7_x1") as caught:
            client.predict(PredictionRequest((info.id,), (wrong,))).only()
        assert caught.value.field == "networks[0].layers[1]"


def _wait(agent: LetiProcess, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 400
    while not done():
        agent.check()
        assert time.monotonic() < deadline, agent.log.read_text()
        time.sleep(0.1)
