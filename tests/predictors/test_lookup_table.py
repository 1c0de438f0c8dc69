"""The look-up table: measured, solved, interpolated; and what it says of what it has not seen."""

import functools
import json
import shutil

import pytest

from leti.core.errors import ArtifactError, InvalidInput

np = pytest.importorskip("numpy", reason="needs the extra `boosting`")
pytest.importorskip("scipy", reason="needs the extra `boosting`")
artifacts = pytest.importorskip("leti.predictors.artifacts")
lookup = pytest.importorskip("leti.predictors.lookup.predictor")
batches = pytest.importorskip("leti.predictors.batch")
names = pytest.importorskip("leti.predictors.profiles.runtime_names")

OVERHEAD_MS, FACTOR = 0.3, 1.2


def kernel_ms(ops) -> float:
    """What a kernel takes: work, bytes and a launch, and some shapes run badly."""
    macs, traffic = sum(op.macs for op in ops), sum(op.traffic_bytes for op in ops)
    awkward = 1.5 if ops[0].outputs[0].shape[-1] == 16 else 1.0
    return awkward * (0.002 + macs / 4e6 + traffic / 4e7)


def times_of(graph) -> list[float]:
    return [kernel_ms([graph.ops[i] for i in kernel]) for kernel in names.kernels_of(graph)]


def whole_ms(graph) -> float:
    return OVERHEAD_MS + FACTOR * sum(times_of(graph))


@functools.cache
def fitted(graphs, *, profiled=True, **options):
    times = [times_of(graph) for graph in graphs] if profiled else None
    return lookup.LookupTablePredictor(**options).fit(graphs, [whole_ms(g) for g in graphs], operator_times=times)


def errors(predictor, graphs):
    predicted = np.array(predictor.predict(graphs).latency_ms)
    return np.abs(predicted / [whole_ms(graph) for graph in graphs] - 1)


def test_kernels_measured_one_by_one_make_the_table(networks):
    predictor = fitted(networks[:60])
    assert errors(predictor, networks[60:]).max() < 0.02


def test_few_profiles_and_many_whole_networks(networks):
    """Kernels that no profile has are priced after their family, or solved."""
    times = [times_of(graph) if i < 6 else None for i, graph in enumerate(networks[:60])]
    predictor = lookup.LookupTablePredictor().fit(
        networks[:60], [whole_ms(graph) for graph in networks[:60]], operator_times=times
    )
    assert np.median(errors(predictor, networks[60:])) < 0.02


@pytest.mark.parametrize("grain", ["kernel", "operator"])
def test_whole_networks_alone_are_enough(networks, grain):
    predictor = fitted(networks[:100], profiled=False, grain=grain)
    assert np.median(errors(predictor, networks[100:])) < 0.02
    assert all(row.source == "solved" and row.latency_ms >= 0 for row in predictor.table())
    fused = any(" + " in row.name for row in predictor.table())
    assert fused == (grain == "kernel")


def test_refuses_another_grain():
    with pytest.raises(InvalidInput) as caught:
        lookup.LookupTablePredictor("layer")
    assert caught.value.field == "grain"


def test_the_table_can_be_had(networks):
    table = fitted(networks[:60]).table()
    assert [row.key for row in table] == sorted({row.key for row in table})
    batch = batches.Batch.of(networks[:60])
    assert sum(row.count for row in table) == len(batch.numbers)
    assert len(table) == len({kernel.name for kernel in batch.kernels})
    row = next(row for row in table if row.kind == "conv2d")
    assert row.name.startswith("conv2d[kernel=")
    assert row.name.endswith(" + relu")
    first, second = row.shapes.split(" + ")
    assert all(">" in shapes and shapes.startswith("1x") for shapes in (first, second))


def test_a_shape_between_those_of_the_table_is_interpolated_and_told(networks, builder):
    predictor = fitted(networks[:100])
    made = builder((1, 16, 16, 8))
    between = made.graph(made.conv(made.conv(0, 24), 8))
    prediction = predictor.predict([between])[0]
    assert any(
        remark.startswith("interpolated: conv2d[kernel=3x3] + relu 1x16x16x8>1x16x16x24")
        for remark in prediction.unknown
    )
    assert prediction.latency_ms == pytest.approx(whole_ms(between), rel=0.25)


def test_a_shape_beyond_the_table_is_extrapolated_and_told(networks, builder):
    predictor = fitted(networks[:100])
    made = builder((1, 64, 64, 8))
    beyond = made.graph(made.conv(0, 64))
    prediction = predictor.predict([beyond])[0]
    assert any(remark.startswith("extrapolated: conv2d[kernel=3x3] + relu") for remark in prediction.unknown)
    assert prediction.latency_ms == pytest.approx(whole_ms(beyond), rel=0.5)


def test_a_family_that_the_table_lacks_is_never_free(networks, builder):
    predictor = fitted(networks[:60], profiled=False)
    made = builder((1, 16, 16, 8))
    plain = made.graph(made.conv(0, 16))
    odd = builder((1, 16, 16, 8))
    wider = odd.graph(odd.conv(odd.conv(0, 16), 16, kernel=5))
    alone, both = predictor.predict([plain, wider])
    assert "not in table: conv2d[kernel=5x5] + relu" in both.unknown
    added, truth = both.latency_ms - alone.latency_ms, whole_ms(wider) - whole_ms(plain)
    assert truth / 3 < added < truth * 3
    other = builder((1, 16, 16, 8))
    unheard = other.graph(other.conv(other.conv(0, 16), 16, kind="conv3d"))
    assert predictor.predict([unheard])[0].latency_ms > alone.latency_ms
    assert "conv3d" in predictor.predict([unheard])[0].unknown


def test_remarks_on_many_kernels_are_counted(networks, builder):
    predictor = fitted(networks[:60])
    made = builder((1, 16, 16, 8))
    value = 0
    for channels in range(9, 21):
        value = made.conv(value, channels)
    remarks = [remark for remark in predictor.predict([made.graph(value)])[0].unknown if "polated: " in remark]
    assert len(remarks) == 5
    assert any("more kernels" in remark for remark in predictor.predict([made.graph(value)])[0].unknown)


def test_shares_are_kernels_with_their_operators_and_add_up(networks):
    for predictor in (fitted(networks[:60]), fitted(networks[:60], profiled=False, grain="operator")):
        for graph, breakdown in zip(networks[60:70], predictor.explain(networks[60:70]), strict=True):
            assert sum(share.latency_ms for share in breakdown.shares) == pytest.approx(breakdown.latency_ms)
            numbers = [number for share in breakdown.shares for number in share.operators]
            assert sorted(numbers) == list(range(len(graph.ops)))
            assert "overhead" in {share.name for share in breakdown.shares}
            of_kernels = [share for share in breakdown.shares if share.operators]
            for share in of_kernels:
                assert share.name == batches.Kernel.of([graph.ops[i] for i in share.operators]).name


def test_shares_say_what_each_kernel_takes(networks):
    predictor = fitted(networks[:60])
    graph = networks[70]
    (breakdown,) = predictor.explain([graph])
    found = {share.operators: share.latency_ms for share in breakdown.shares if share.operators}
    for kernel, time in zip(names.kernels_of(graph), times_of(graph), strict=True):
        assert found[kernel] == pytest.approx(FACTOR * time, rel=0.1)


def test_the_grain_survives_saving(networks, tmp_path):
    predictor = fitted(networks[:40], profiled=False, grain="operator")
    artifacts.save(predictor, tmp_path / "new")
    loaded = artifacts.load(tmp_path / "new")
    assert loaded.table() == predictor.table()
    np.testing.assert_array_equal(loaded.predict(networks).latency_ms, predictor.predict(networks).latency_ms)


@pytest.fixture(scope="module")
def saved(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table") / "saved"
    fitted(networks[:40]).save(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"rows": []},
        {"rows": [["a"]]},
        {"roofline": {}},
        {"roofline": {"": [1.0, -1.0, 0.0]}},
        {"roofline": {"": [1.0, 0.0]}},
        {"correction": {"terms": ["overhead", "sum"], "weights": ["much", 1.0]}},
        {"correction": {"terms": ["overhead", "sum"], "weights": [1.0]}},
        {"correction": {"terms": ["overhead", "surprise"], "weights": [1.0, 1.0]}},
        {"correction": {"terms": ["sum"], "weights": [-1.0]}},
        {"floor_ms": "low"},
    ],
)
def test_a_hostile_artifact_is_told(saved, tmp_path, change):
    shutil.copytree(saved, tmp_path / "new")
    path = tmp_path / "new" / "state.json"
    state = json.loads(path.read_text())
    state["model"] |= change
    path.write_text(json.dumps(state))
    with pytest.raises(ArtifactError):
        lookup.LookupTablePredictor.load(tmp_path / "new")
