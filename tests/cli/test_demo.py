"""The whole loop as a user runs it: the demo, interrupted and run again, then what it left is served and asked."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

for module, extra in (("xgboost", "boosting"), ("fastapi", "service"), ("ai_edge_litert", "agent"), ("altair", "plot")):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

from leti.cli.processes import ServiceProcess
from leti.client import LatencyClient
from leti.core.spec import NetworkConfig
from leti.generator.export.tflite import export_tflite
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors.registry import default_kinds

pytestmark = [pytest.mark.alone, pytest.mark.timeout(1800)]  # on a busy machine; a minute and a half on a free one

ROOT = Path(__file__).parents[2]
NETWORKS = 45
CALM = 0.6  # of the networks at least are measured calmly; on a busy machine, the others are kept as noisy
DEGENERATE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


@pytest.fixture(scope="module")
def home(interrupted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo that was interrupted with Ctrl-C in the middle of measuring, and then run to its end."""
    folder = tmp_path_factory.mktemp("a home")
    home = folder / "leti home"
    again = interrupted(
        "demo", "--networks", str(NETWORKS), "--home", home, "--json", home / "out" / "demo.json",
        begun=lambda: _measurements(home) >= 8, folder=folder,
    )  # fmt: skip
    if again.returncode == 2 and "training needs" in again.stderr:
        pytest.skip(f"the machine is too restless to train on what it measures: {again.stderr.splitlines()[-1]}")
    assert again.returncode == 0
    (home / "output").write_text(again.stdout)
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[LatencyClient]:
    with ServiceProcess(home) as service, LatencyClient(service.url) as client:
        yield client


def test_it_goes_on_from_what_was_there(home: Path) -> None:
    data = json.loads((home / "out" / "demo.json").read_text())
    campaign, again = data["campaign"], data["again"]
    assert campaign["networks"] == NETWORKS
    assert campaign["done"] == campaign["networks"] + 3 * round(0.2 * campaign["networks"])
    assert all(other["done"] == other["networks"] <= campaign["noisy"] for other in again), "what was noisy"
    with closing(sqlite3.connect(home / "leti.sqlite")) as database:
        (jobs,) = database.execute("select count(*) from jobs").fetchone()
        (measured,) = database.execute("select count(distinct job_id) from measurements where late = 0").fetchone()
    done = sum(each["done"] for each in (campaign, *again))
    assert jobs == measured == done, "what was measured before the interruption is kept, not measured again"


def test_it_ends_with_the_table_and_the_plots(home: Path) -> None:
    data = json.loads((home / "out" / "demo.json").read_text())
    assert tuple(data["predictors"]) == default_kinds()
    assert data["active"] in data["predictors"]
    for metrics in data["predictors"].values():
        assert metrics["n_train"] + metrics["n_test"] >= CALM * NETWORKS
        assert 0 <= metrics["within_5"] <= metrics["within_10"] <= 1
    repeated = _repeated(home)
    assert (data["repeatability"] or {"networks": 0})["networks"] == repeated
    assert repeated < 5 or data["repeatability"]["within"]["0.1"] > 0.5
    png, html = map(Path, data["plots"])
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "vega" in html.read_text(encoding="utf-8")
    assert "<script src=" not in html.read_text(encoding="utf-8"), "works offline"
    assert [query["source"] for query in data["queries"]] == ["predicted"] * 6 + ["measured"]
    output = (home / "output").read_text()
    for words in ("flops_by_memory", "repeatability", "leti.sqlite", "serve it again: "):
        assert words in output


def test_both_spaces_are_measured(client: LatencyClient) -> None:
    (platform,) = client.platforms()
    assert platform.networks_measured >= CALM * NETWORKS
    fingerprints = {row.fingerprint for row in client.measurements(platform_id=platform.id, limit=200).items}
    spaces = [client.network(fingerprint).space for fingerprint in fingerprints]
    assert spaces.count("nasbench101") >= CALM * (NETWORKS // 3)
    first = client.measurements(platform_id=platform.id, limit=1).items[0]
    measurement = client.measurement(first.id)
    assert len(measurement.passes) >= 5
    assert measurement.recipe.runtime_version
    assert measurement.recipe.protocol


def test_predict_takes_a_string_a_spec_and_a_model_file(leti, client: LatencyClient, tmp_path: Path) -> None:
    spec = get_space("nasbench201").sample(1, 99, NetworkConfig())[0]
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    model = export_tflite(lower(spec, "prune"), source=(spec, "prune"))
    (tmp_path / "pruned.tflite").write_bytes(model)
    out = tmp_path / "answers.json"
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    ran = leti(
        "predict", cell, tmp_path / "spec.json", tmp_path / "pruned.tflite", DEGENERATE,
        "--url", client.base_url, "--json", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(out.read_text())
    assert [answer["source"] for answer in answers] == ["predicted"] * 4
    assert [answer["degenerate"] for answer in answers] == [False, False, False, True]
    assert answers[1]["fingerprint"] == lower(spec).fingerprint()
    assert answers[2]["fingerprint"] == lower(spec, "prune").fingerprint()
    assert all(0 < a["low_ms"] <= a["latency_ms"] <= a["high_ms"] for a in answers)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"space": "nasbench101", "adjacency": [[0, 1], [0]], "layers": ["input", "output"]}', "square"),
        ('{"space": "nasbench101", "adjacency": [[0, 1], [1, 0]], "layers": ["input", "output"]}', "upper-triangular"),
        (
            '{"space": "nasbench101", "adjacency": [[0,1,0],[0,0,1],[0,0,0]], "layers": ["input", "conv9", "output"]}',
            "conv3x3-bn-relu",
        ),
        ("{", "not JSON"),
        ("[1]", "spec"),
    ],
)
def test_bad_networks_are_one_line(leti, client: LatencyClient, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    ran = leti("predict", tmp_path / "bad.json", "--url", client.base_url)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_a_changed_model_file_is_refused(leti, client: LatencyClient, tmp_path: Path) -> None:
    (tmp_path / "foreign.tflite").write_bytes(os.urandom(4096))
    ran = leti("predict", tmp_path / "foreign.tflite", "--url", client.base_url)
    assert (ran.returncode, len(ran.stderr.strip().splitlines())) == (2, 1)
    ran = leti("predict", "nowhere.tflite", "--url", client.base_url)
    assert ran.returncode == 2
    assert "no file" in ran.stderr


def test_campaigns_training_and_unknown_platforms(leti, client: LatencyClient) -> None:
    url = ("--url", client.base_url)
    ran = leti("campaign", "create", "again", "--sample", "nasbench201:3", "--seed", "7", "--priority", "7", *url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[2].split()[-1] == "priority"
    ran = leti("campaign", "list", *url)
    assert "again" in ran.stdout
    assert f"demo-{NETWORKS}" in ran.stdout
    ran = leti("train", "--kind", "flops", "--seed", "1", *url)
    assert ran.returncode == 0, ran.stderr
    assert "repeatability" in ran.stdout
    for arguments, word in (
        (("train", "--platform", "abacus"), "no platform 'abacus'"),
        (("train", "--kind", "oracle"), "xgboost"),
        (("campaign", "create", "x", "--sample", "nasbench201"), "SPACE:COUNT"),
        (("campaign", "create", "x", "--sample", "nasbench999:3"), "nasbench201"),
        (("campaign", "create", "x", "--sample", "nasbench201:99999"), "--sample"),
        (("campaign", "show", "77"), "77"),
    ):
        ran = leti(*arguments, *url)
        assert ran.returncode == 2, (arguments, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        if word != "--sample":
            assert word in ran.stderr


def test_the_example_runs(client: LatencyClient) -> None:
    command = [sys.executable, str(ROOT / "examples" / "ask_for_latencies.py"), client.base_url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(" ms ") == 5


def test_without_a_service_the_command_says_so(leti) -> None:
    ran = leti("campaign", "list", "--url", "http://127.0.0.1:9")
    assert ran.returncode == 2
    assert "127.0.0.1:9" in ran.stderr
    assert "Traceback" not in ran.stderr


def _measurements(home: Path) -> int:
    return _count(home, "select count(*) from measurements")


def _repeated(home: Path) -> int:
    """Return how many networks were measured calmly more than once."""
    calm = "select fingerprint from measurements where not late and not noisy group by fingerprint having count(*) > 1"
    return _count(home, f"select count(*) from ({calm})")


def _count(home: Path, question: str) -> int:
    if not (home / "leti.sqlite").exists():
        return 0
    try:
        with closing(sqlite3.connect(home / "leti.sqlite")) as database:
            (count,) = database.execute(question).fetchone()
            return int(count)
    except sqlite3.OperationalError:
        return 0
