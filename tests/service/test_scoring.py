"""Scoring in bulk: the same plan scores the same networks, wherever it runs and however often it was cut off."""

from __future__ import annotations

import dataclasses

import pytest

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra arrow")

from leti.core.errors import Conflict, InvalidInput
from leti.generator.lowering import lower
from leti.generator.spaces import get_space
from leti.predictors import artifacts
from leti.predictors.registry import predictor_class
from leti.service.scoring import ENGINES, ScoringPlan, score
from leti.service.scoring.run import read_files

FBNET = get_space("fbnet")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    """A small predictor, saved: its files and their SHA-256."""
    graphs = [lower(spec) for spec in FBNET.sample(40, 1, FBNET.default_config)]
    fitted = predictor_class("flops")().fit(graphs, [1 + graph.macs / 1e8 for graph in graphs])
    folder = tmp_path_factory.mktemp("predictor") / "flops"
    sha256 = artifacts.save(fitted, folder)
    return fitted, sha256, read_files(folder)


@pytest.fixture
def plan(predictor):
    return ScoringPlan(
        "fbnet", 60, 7, "execute", FBNET.default_config, "phone", "float32", "flops", 1, predictor[1], shard_size=25
    )


def rows(folder):
    return pq.read_table([str(path) for path in sorted(folder.glob("part-*.parquet"))]).to_pylist()


def test_what_is_scored_is_what_the_predictor_says(plan, predictor, tmp_path):
    fitted, _, files = predictor
    report = score(plan, files, tmp_path, ENGINES["local"], processes=1)
    assert (report.scored, report.found, report.files) == (60, 0, 3)
    found = rows(tmp_path)
    assert [row["number"] for row in found] == list(range(60))
    graphs = [lower(FBNET.decode(row["encoding"], FBNET.default_config)) for row in found]
    said = fitted.predict(graphs, coverage=0.9)
    for row, graph, answer in zip(found, graphs, said, strict=True):
        assert row["fingerprint"] == graph.fingerprint()
        assert (row["latency_ms"], row["low_ms"], row["high_ms"]) == (answer.latency_ms, answer.low_ms, answer.high_ms)
        assert (row["macs"], row["error"]) == (graph.macs, None)


def test_a_run_that_was_cut_off_goes_on(plan, predictor, tmp_path):
    def cut_off(plan, files, todo, processes):
        for scored in ENGINES["local"](plan, files, todo, processes):
            yield scored
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(plan, predictor[2], tmp_path, cut_off, processes=1)
    (first,) = tmp_path.glob("part-*.parquet")
    (tmp_path / "part-000002.parquet").write_bytes(first.read_bytes()[:100])  # half written, by whatever means
    seen = []
    report = score(
        plan, predictor[2], tmp_path, ENGINES["local"], processes=1, progress=lambda done, total: seen.append(done)
    )
    assert (report.scored + report.found, seen[-1]) == (60, 60)
    assert report.found in (10, 25)
    whole = rows(tmp_path)
    again = tmp_path / "again"
    score(plan, predictor[2], again, ENGINES["local"], processes=1)
    assert whole == rows(again)
    assert score(plan, predictor[2], tmp_path, ENGINES["local"], processes=1).scored == 0


def test_another_plan_does_not_mix_with_the_first(plan, predictor, tmp_path):
    score(dataclasses.replace(plan, count=5), predictor[2], tmp_path, ENGINES["local"], processes=1)
    with pytest.raises(Conflict, match="differs in count, seed"):
        score(dataclasses.replace(plan, seed=8), predictor[2], tmp_path, ENGINES["local"], processes=1)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(Conflict, match="something else"):
        score(plan, predictor[2], tmp_path / "foreign", ENGINES["local"], processes=1)


def test_small_spaces_are_scored_without_repeats(plan):
    space = get_space("nasbench201")
    small = dataclasses.replace(plan, space="nasbench201", config=space.default_config, count=300, shard_size=90)
    drawn = [spec for shard in small for spec in small.draw(shard)]
    assert len({space.isomorphism_class(spec) for spec in drawn}) == len(drawn) == 300
    with pytest.raises(InvalidInput, match="ask for at most"):
        dataclasses.replace(small, count=10**6)


def test_ray_scores_the_same(plan, predictor, tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    score(plan, predictor[2], tmp_path / "local", ENGINES["local"], processes=1)
    report = score(plan, predictor[2], tmp_path / "ray", ENGINES["ray"], processes=1)
    assert report.scored == 60
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
