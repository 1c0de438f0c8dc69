"""What every predictor promises, whatever its kind: the whole registry runs this suite."""

import hashlib
import itertools
import json
import math

import pytest

from leti.core.errors import (
    ArtifactError,
    InvalidInput,
    LetiError,
    NotPredictable,
    TooFewMeasurements,
    VersionMismatch,
)
from leti.core.graph import Graph
from leti.core.prediction import Predictor
from leti.core.spec import NetworkConfig
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
artifacts = pytest.importorskip("leti.predictors.artifacts")
registry = pytest.importorskip("leti.predictors.registry")
Batch = pytest.importorskip("leti.predictors.batch").Batch

# By the module: all tests of a kind one after the other, so that one process trains what they share.
pytestmark = pytest.mark.parametrize("kind", registry.kinds(), scope="module")

NOISE = 0.05


@pytest.fixture(scope="module")
def trained(networks, latency):
    """One predictor a kind, made once: one of its hundred measurements is a stray."""
    made: dict[str, Predictor] = {}

    def get(kind: str) -> Predictor:
        if kind not in made:
            measured = [latency(g, NOISE) for g in networks[:100]]
            measured[7] *= 100
            made[kind] = registry.create(kind).fit(networks[:100], measured, seed=1)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def small(networks, latency):
    """One predictor a kind, trained with seed 3 on the first forty networks: another training is held against it."""
    made: dict[str, Predictor] = {}

    def get(kind: str) -> Predictor:
        if kind not in made:
            train = networks[:40]
            made[kind] = registry.create(kind).fit(train, [latency(g, NOISE) for g in train], seed=3)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def fewest(network, latency):
    """One predictor a kind, trained on the fewest networks, of operators that no importer knew; and its progress."""
    made: dict[str, tuple[Predictor, list[tuple[int, int]]]] = {}

    def get(kind: str) -> tuple[Predictor, list[tuple[int, int]]]:
        if kind not in made:
            calls: list[tuple[int, int]] = []
            graphs = [network(seed, kind="unknown:CUSTOM") for seed in range(20)]
            predictor = registry.create(kind)
            predictor.fit(graphs, [latency(g) for g in graphs], progress=lambda *call: calls.append(call))
            made[kind] = predictor, calls
        return made[kind]

    return get


def columns(predictions):
    return np.array([predictions.latency_ms, predictions.low_ms, predictions.high_ms])


def test_is_a_predictor_of_its_kind(kind):
    predictor = registry.create(kind)
    assert isinstance(predictor, Predictor)
    assert predictor.kind == kind


def test_answers_every_graph_with_a_positive_latency_inside_its_interval(kind, trained, networks):
    predictions = trained(kind).predict(networks[100:])
    assert len(predictions) == len(networks[100:])
    assert predictions.predictor == kind
    assert predictions.coverage == 0.9
    latency, low, high = columns(predictions)
    assert np.all(np.isfinite(high))
    assert np.all((low > 0) & (low < latency) & (latency < high))
    first = predictions[0]
    assert (first.source, first.unknown) == ("predicted", ())


def test_learns_something_and_no_stray_bends_it(kind, trained, networks, latency):
    """Latency is a line over MACs and operators: a predictor that only knew the mean would be far off."""
    truth = np.array([latency(g) for g in networks[100:]])
    error = np.abs(np.array(trained(kind).predict(networks[100:]).latency_ms) / truth - 1)
    mean = np.abs(truth.mean() / truth - 1)
    assert np.median(error) < min(0.15, 0.3 * np.median(mean))


def test_no_graphs_give_no_predictions(kind, trained):
    assert len(trained(kind).predict([])) == 0


def test_one_graph_and_many_get_the_same_answer(kind, trained, networks):
    """Networks like those of training, and such whose parts are known and alien to it: few go ways of their own."""
    small = NetworkConfig(input_shape=(32, 32, 3), stacks=2, modules_per_stack=3)
    stamped = [lower(spec) for name in ("fbnet", "nasbench201") for spec in SPACES[name].sample(10, 3, small)]
    graphs = [*networks[100:120], *stamped]
    many = trained(kind).predict(graphs)
    tolerance = 1e-6 if kind in registry.PREDICTORS and registry.PREDICTORS[kind].costly else 1e-12
    for size in (1, 3):
        few = [trained(kind).predict(graphs[i : i + size]) for i in range(0, len(graphs), size)]
        np.testing.assert_allclose(np.hstack([columns(of_one) for of_one in few]), columns(many), rtol=tolerance)
        np.testing.assert_allclose(np.hstack([of_one.distance for of_one in few]), many.distance, rtol=1e-12)
        assert tuple(itertools.chain.from_iterable(of_one.unknown for of_one in few)) == many.unknown
    assert any(many.unknown)


def test_equal_graphs_get_equal_latencies(kind, trained, networks):
    """Also when they come from JSON and share no object with those of the training."""
    again = [Graph.from_json(json.loads(json.dumps(graph.to_json()))) for graph in networks[100:120]]
    np.testing.assert_allclose(
        columns(trained(kind).predict(again)), columns(trained(kind).predict(networks[100:120])), rtol=1e-6
    )


def test_intervals_cover_what_they_promise(kind, trained, small, networks, latency):
    """Training and test drawn alike, more than once: the mean of the shares is near the promise."""
    grouped = registry.create(kind)
    grouped.fit(networks[120:], [latency(g, NOISE) for g in networks[120:]], groups=[str(i // 2) for i in range(80)])
    shares = []
    for predictor, test in ((trained(kind), networks[100:]), (small(kind), networks[40:]), (grouped, networks[:120])):
        _, low, high = columns(predictor.predict(test, coverage=0.8))
        measured = np.array([latency(g, NOISE) for g in test])
        shares.append(np.mean((low <= measured) & (measured <= high)))
    assert min(shares) > 0.65
    assert 0.7 <= np.mean(shares) <= 0.92


def test_more_coverage_is_wider(kind, trained, networks):
    predictor = trained(kind)
    widths = [np.ptp(columns(predictor.predict(networks[:1], coverage=c))[1:, 0]) for c in (0.5, 0.8, 0.95)]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, math.nan, math.inf, True])
def test_refuses_a_coverage_that_is_none(kind, coverage, trained, networks):
    with pytest.raises(InvalidInput) as caught:
        trained(kind).predict(networks[:1], coverage=coverage)
    assert caught.value.field == "coverage"


def test_refuses_a_coverage_that_the_measurements_cannot_support(kind, trained, networks):
    trained(kind).predict(networks[:1], coverage=100 / 101)
    with pytest.raises(InvalidInput, match="100 measured networks") as caught:
        trained(kind).predict(networks[:1], coverage=0.995)
    assert "0.99" in caught.value.remedy


def test_lists_kinds_of_operator_that_training_never_saw(kind, trained, network):
    strange = network(3, kind="conv3d")
    known, unknown = trained(kind).predict([network(3), strange])
    assert known.unknown == ()
    assert unknown.unknown == ("conv3d",)


def test_lists_operators_that_an_importer_did_not_know(kind, fewest, network):
    """Training on them makes them no better known."""
    predictor, _ = fewest(kind)
    assert predictor.predict([network(0, kind="unknown:CUSTOM")])[0].unknown == ("unknown:CUSTOM",)


def test_lists_shapes_outside_training(kind, trained, builder):
    wide = builder((1, 16, 16, 8))
    huge = wide.graph(wide.conv(0, 512))
    remarks = trained(kind).predict([huge])[0].unknown
    assert "shape: conv2d 16x16x8 to 16x16x512 outside training" in remarks
    kernel = builder((1, 16, 16, 8))
    remarks = trained(kind).predict([kernel.graph(kernel.conv(0, 16, kernel=7))])[0].unknown
    assert any(remark.startswith("kernel.0: conv2d 7") for remark in remarks)


def test_lists_networks_far_larger_than_those_of_training(kind, trained, builder):
    deep = builder((1, 16, 16, 8))
    value = deep.conv(0, 32)
    for _ in range(60):
        value = deep.conv(value, 32)
    (remark,) = trained(kind).predict([deep.graph(value)])[0].unknown
    assert remark.startswith("macs: ")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, None, "fast", True])
def test_refuses_latencies_that_are_none(kind, bad, networks):
    measured = [1.0] * 30
    measured[17] = bad
    with pytest.raises(InvalidInput) as caught:
        registry.create(kind).fit(networks[:30], measured)
    assert caught.value.field == "latencies_ms[17]"


def test_refuses_lengths_that_differ(kind, networks):
    with pytest.raises(InvalidInput) as caught:
        registry.create(kind).fit(networks[:30], [1.0] * 29)
    assert caught.value.field == "latencies_ms"
    with pytest.raises(InvalidInput) as caught:
        registry.create(kind).fit(networks[:30], [1.0] * 30, groups=["a"] * 29)
    assert caught.value.field == "groups"


def test_refuses_too_few_measurements(kind, networks):
    with pytest.raises(TooFewMeasurements) as caught:
        registry.create(kind).fit(networks[:19], [1.0] * 19)
    assert (caught.value.details["given"], caught.value.details["needed"]) == (19, 20)
    with pytest.raises(TooFewMeasurements) as caught:
        registry.create(kind).fit(networks[:30], [1.0] * 30, groups=["one"] * 30)
    assert caught.value.field == "groups"


def test_trains_on_the_fewest_and_tells_its_progress(kind, fewest, networks):
    predictor, calls = fewest(kind)
    assert predictor.predict(networks[20:21])[0].latency_ms > 0
    done, total = zip(*calls, strict=True)
    assert len(set(total)) == 1
    assert list(done) == sorted(set(done))
    assert done[-1] == total[0]


def test_refuses_networks_that_all_took_the_same_time(kind, networks):
    with pytest.raises(InvalidInput, match="all the same") as caught:
        registry.create(kind).fit(networks[:30], [2.5] * 30)
    assert caught.value.field == "latencies_ms"


def test_bears_networks_that_nearly_all_took_the_same_time(kind, networks):
    """A straight line without a slope, residuals of nearly zero: nothing to learn, and nothing to fail on."""
    predictor = registry.create(kind).fit(networks[:30], [2.5 + 1e-6 * (i % 3) for i in range(30)])
    np.testing.assert_allclose(columns(predictor.predict(networks)), 2.5, rtol=1e-3)


def test_same_seed_same_predictor_and_networks_given_more_than_once_count_once(kind, small, networks, latency):
    """One of three times a stray: trained anew as on each once, and contradictions are said."""
    graphs, measured, once = networks[:40], [latency(g, NOISE) for g in networks[:40]], small(kind)
    predictor = registry.create(kind).fit(graphs * 3, [*measured, *(5 * ms for ms in measured), *measured], seed=3)
    np.testing.assert_array_equal(columns(predictor.predict(networks)), columns(once.predict(networks)))
    assert not any("more than once" in remark for remark in once.remarks)
    assert "40 networks are given more than once, 120 times in all" in predictor.remarks[0]
    assert "400.0 %" in predictor.remarks[0]
    with pytest.raises(TooFewMeasurements, match="30 measured networks are given, 1 of them different"):
        registry.create(kind).fit([networks[1]] * 30, [2.0 + 0.01 * i for i in range(30)])


def test_learns_with_times_of_kernels_and_refuses_those_that_are_none(kind, networks, latency):
    graphs = networks[:30]
    measured = [latency(g) for g in graphs]
    times = [[latency(g) / len(g.kernels)] * (len(g.ops) - len(g.kernels)) for g in graphs]
    assert all(len(of_one) == len(Batch.of([g]).numbers) for of_one, g in zip(times, graphs, strict=True))
    some = [None if i % 3 == 0 else of_one for i, of_one in enumerate(times)]
    predictor = registry.create(kind).fit(graphs, measured, operator_times=some)
    assert np.all(np.isfinite(columns(predictor.predict(networks[30:40]))))
    for bad, field in ((math.nan, "[7][1]"), (-1.0, "[7][1]"), (math.inf, "[7][1]"), ("1", "[7][1]")):
        wrong = [list(of_one) for of_one in times]
        wrong[7][1] = bad
        with pytest.raises(InvalidInput) as caught:
            registry.create(kind).fit(graphs, measured, operator_times=wrong)
        assert caught.value.field == f"operator_times{field}"
    for short, field in ((times[:-1], ""), ([times[0][:-1], *times[1:]], "[0]")):
        with pytest.raises(InvalidInput) as caught:
            registry.create(kind).fit(graphs, measured, operator_times=short)
        assert caught.value.field == f"operator_times{field}"


def test_tells_how_far_a_network_is_from_those_of_training(kind, trained, networks, builder):
    near = np.asarray(trained(kind).predict(networks[:100]).distance)
    assert np.mean(near <= 1) >= 0.95
    deep = builder((1, 16, 16, 8))
    value = deep.conv(0, 32)
    for _ in range(60):
        value = deep.conv(value, 32)
    assert trained(kind).predict([deep.graph(value)])[0].distance > 2


def test_tells_what_a_latency_is_made_of_or_that_it_cannot(kind, trained, networks):
    try:
        told = trained(kind).explain(networks[100:105])
    except NotPredictable:
        return
    for breakdown, prediction, graph in zip(
        told, trained(kind).predict(networks[100:105]), networks[100:105], strict=True
    ):
        assert breakdown.latency_ms == pytest.approx(prediction.latency_ms, rel=1e-6)
        assert sum(share.latency_ms for share in breakdown.shares) == pytest.approx(prediction.latency_ms, rel=1e-5)
        assert {i for share in breakdown.shares for i in share.operators} <= set(range(len(graph.ops)))


def test_nothing_is_predicted_before_training(kind, networks, tmp_path):
    with pytest.raises(InvalidInput, match="not trained"):
        registry.create(kind).predict(networks[:1])
    with pytest.raises(InvalidInput, match="not trained"):
        artifacts.save(registry.create(kind), tmp_path / "new")


def test_saved_and_loaded_it_answers_the_same(kind, trained, networks, tmp_path):
    digest = artifacts.save(trained(kind), tmp_path / "new")
    loaded = artifacts.load(tmp_path / "new", digest)
    assert type(loaded) is type(trained(kind))
    before, after = (p.predict(networks, coverage=0.8) for p in (trained(kind), loaded))
    np.testing.assert_array_equal(columns(after), columns(before))
    assert after.unknown == before.unknown
    assert artifacts.save(loaded, tmp_path / "again") == digest


def test_an_artifact_has_no_pickle(kind, trained, tmp_path):
    artifacts.save(trained(kind), tmp_path / "new")
    for path in (tmp_path / "new").iterdir():
        assert path.suffix in {".json", ".npz", ".ubj", ".txt", ".cbm", ".safetensors", ".onnx"}
        if path.suffix == ".npz":
            assert all(array.dtype == np.float64 for array in np.load(path, allow_pickle=False).values())


def test_a_damaged_artifact_is_told(kind, trained, tmp_path):
    folder = tmp_path / "new"
    digest = artifacts.save(trained(kind), folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        for damaged in (content[:-20], b"", flipped):
            path.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                artifacts.load(folder, digest)
            if path.name not in ("manifest.json",):
                with pytest.raises(ArtifactError):
                    type(trained(kind)).load(folder)
        path.unlink()
        with pytest.raises(ArtifactError):
            artifacts.load(folder)
        path.write_bytes(content)
    artifacts.load(folder, digest)
    with pytest.raises(ArtifactError):
        artifacts.load(folder, "0" * 64)


@pytest.mark.parametrize("nonsense", [None, -1, "x", [], {}, [[]], 1e300], ids=repr)
def test_a_state_that_makes_no_sense_is_told(kind, nonsense, trained, networks, tmp_path):
    """Whoever wrote it: what can be read predicts, and what cannot is an error of ours, never another."""
    folder = tmp_path / "new"
    trained(kind).save(folder)
    state = json.loads((folder / "state.json").read_text())
    for changed in _changed(state, nonsense):
        (folder / "state.json").write_text(json.dumps(changed))
        try:
            latency, low, high = columns(type(trained(kind)).load(folder).predict(networks[:5]))
        except LetiError:
            continue
        assert np.all((low > 0) & (low <= latency) & (latency <= high) & np.isfinite(high))


def test_numbers_that_are_none_are_told(kind, trained, networks, tmp_path):
    """An array of NaN under a checksum that fits: damaged before it was saved, or on purpose."""
    folder = tmp_path / "new"
    trained(kind).save(folder)
    state = json.loads((folder / "state.json").read_text())
    with np.load(folder / "arrays.npz") as packed:
        arrays = dict(packed)
    for name in arrays:
        if not arrays[name].size:
            continue
        np.savez(folder / "arrays.npz", **{**arrays, name: np.full_like(arrays[name], math.nan)})
        state["files"]["arrays.npz"] = hashlib.sha256((folder / "arrays.npz").read_bytes()).hexdigest()
        (folder / "state.json").write_text(json.dumps(state))
        with pytest.raises(LetiError):
            type(trained(kind)).load(folder).predict(networks[:5])


def test_no_file_outside_an_artifact_is_read(kind, trained, tmp_path):
    folder = tmp_path / "new"
    artifacts.save(trained(kind), folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    outside = tmp_path / "arrays.npz"
    outside.write_bytes((folder / "arrays.npz").read_bytes())
    for name in ("../arrays.npz", str(outside), "..", ""):
        listed = {**manifest["files"], name: manifest["files"]["arrays.npz"]}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "files": listed}))
        with pytest.raises(ArtifactError, match="cannot be"):
            artifacts.load(folder)


def test_an_artifact_of_another_format_is_told(kind, trained, tmp_path):
    for name, key in (("manifest.json", "format_version"), ("state.json", "format")):
        folder = tmp_path / key
        artifacts.save(trained(kind), folder)
        data = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**data, key: 999}))
        with pytest.raises(VersionMismatch, match="999"):
            (artifacts.load if name == "manifest.json" else type(trained(kind)).load)(folder)


def test_does_not_save_over_something_else(kind, trained, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for save in (artifacts.save, lambda predictor, folder: predictor.save(folder)):
        with pytest.raises(InvalidInput, match="not empty"):
            save(trained(kind), tmp_path)


def _changed(state, nonsense, depth=2):
    """Yield copies of a state, each with another value replaced."""
    for key, value in state.items():
        yield {**state, key: nonsense}
        if isinstance(value, dict) and depth and len(value) <= 40:
            yield from ({**state, key: changed} for changed in _changed(value, nonsense, depth - 1))
