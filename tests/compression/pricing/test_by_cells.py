"""Tables of cells: exact sums of what was measured, filled bit by bit, saved whole, and never read where damaged."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `compression`")
pytest.importorskip("scipy", reason="needs the extra `compression`")

from leti.compression.measuring.meter import Meter, Reading, Subject
from leti.compression.pricing.by_cells import CellTable
from leti.compression.pricing.cells import cuts, distinct_cells, idle_network
from leti.core.errors import InvalidInput, MeasurementFailed, NotPredictable, VersionMismatch
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import Patching
from leti.generator.compressing.pieces import Pieces
from leti.generator.compressing.sampling import compressed
from leti.predictors.array_files import read_arrays, write_arrays

INVOKE_MS = 0.002
BASELINE_MS = 4.0


def kernels_ms(graph):
    """What the kernels of a network take on a device where each is told by its operators alone."""
    return sum(
        1e-6 * sum(graph.ops[i].traffic_bytes + graph.ops[i].macs for i in kernel)
        + 1e-3 * (1 + zlib.crc32(repr([graph.ops[i].signature for i in kernel]).encode()) % 64)
        for kernel in graph.kernels
    )


class Additive(Meter):
    """A device on which a network takes what its kernels take, and an invoke on top; it errs by 1 % to both sides."""

    takes_files = True

    def __init__(self, breaks_after=10**9):
        self.left = breaks_after

    def measure(self, baseline, subjects, *, progress=None):
        found = [Reading(BASELINE_MS, 1.0, 1.0, 1.0)]
        for subject in subjects:
            if not self.left:
                raise MeasurementFailed("the device is gone", failure="other")
            self.left -= 1
            idle = subject.graph == idle_network()
            ratio = (INVOKE_MS + (0.0 if idle else kernels_ms(subject.graph))) / BASELINE_MS
            found.append(Reading(ratio * BASELINE_MS, ratio, ratio * 0.99, ratio * 1.01))
            if progress is not None:
                progress(len(found), len(subjects) + 1)
        return tuple(found)


@pytest.fixture(scope="module")
def base():
    """A network with a branch; its two last convolutions are equal."""
    builder = GraphBuilder(TensorType((1, 8, 8, 4)))
    value = builder.relu(builder.conv(0, 16, 3))
    value = builder.relu(builder.add([value, builder.conv(value, 16, 1)]))
    for _ in range(2):
        value = builder.relu(builder.conv(value, 16, 3))
    return builder.graph(builder.fully_connected(builder.global_mean(value), 10))


@pytest.fixture(scope="module")
def patches(base):
    forms = compressed(base, 12, 3)
    return (Patch(), *forms, Patch(precision="full_integer"), replace(forms[0], precision="full_integer"))


@pytest.fixture(scope="module")
def graphs(base, patches):
    return [Patching(base).patched(patch).graph for patch in patches]


@pytest.fixture
def empty(base):
    return CellTable("desk", "litert 2.3.0", base.fingerprint())


@pytest.fixture
def table(empty, base, graphs):
    return empty.filled(Additive(), Subject(base), empty.missing(graphs))


def test_a_price_is_the_sum_of_the_kernels_and_one_invoke(table, base, patches, graphs):
    costs = table.price(base, patches)
    assert costs.latency_ms == pytest.approx([kernels_ms(graph) + INVOKE_MS for graph in graphs])
    assert costs.macs.tolist() == [graph.macs for graph in graphs]
    # A cell's bound is 1 % of it and of the invoke in it; they add up, each as often as its kernel stands there.
    high = [1.01 * (kernels_ms(g) + INVOKE_MS) + 0.01 * INVOKE_MS * len(cuts(g)) for g in graphs]
    assert costs.high_ms == pytest.approx(high)
    whole = table.price_graphs(graphs)
    assert np.allclose(whole.latency_ms, costs.latency_ms, rtol=1e-12)
    assert np.allclose(whole.high_ms, costs.high_ms, rtol=1e-12)


def test_what_each_kernel_takes_adds_up_to_the_whole(table, graphs):
    for graph, latency_ms in zip(graphs, table.price_graphs(graphs).latency_ms, strict=True):
        found = table.kernels_ms(graph)
        assert sum(ms for _, ms in found) + INVOKE_MS == pytest.approx(latency_ms)
        assert sorted(i for operators, _ in found for i in operators) == list(range(len(graph.ops)))


def test_no_kernel_is_free(empty, base):
    readings = {each.fingerprint(): Reading(1.0, 0.25, 0.2, 0.3) for each in empty.missing([base])}
    table = CellTable("desk", "litert", base.fingerprint(), (4.0,), readings)
    costs = table.price_graphs([base])
    assert costs.latency_ms[0] == pytest.approx(4.0 * 0.25 * (1 + 0.05 * len(base.kernels)))


def test_what_is_missing_is_said_and_never_counts_as_nothing(empty, table, base, patches):
    assert empty.missing([base])[0].fingerprint() == idle_network().fingerprint()
    assert len(empty.missing([base])) == 1 + len(distinct_cells([base])) == len(base.kernels)
    assert table.missing([base]) == ()
    pieces = Pieces(base)
    in_pieces = empty.missing([pieces.patched(patch) for patch in patches])
    assert set(in_pieces) == set(empty.missing([Patching(base).patched(patch).graph for patch in patches]))
    with pytest.raises(NotPredictable, match=r"the table lacks relu.* and \d+ more"):
        empty.price(base, (Patch(),))
    with pytest.raises(NotPredictable, match="the table lacks"):
        empty.kernels_ms(base)
    with pytest.raises(NotPredictable, match=r"conv2d.*8x8x16>1x8x8x5 .*") as caught:
        table.price(base, (*patches, Patch(widths={5: 5})))
    assert caught.value.details["missing"] == 2
    with pytest.raises(InvalidInput, match=r"patches\[1\].widths\[5\]"):
        table.price(base, (Patch(), Patch(widths={5: 17})))


def test_a_table_is_filled_on_where_it_broke_off(empty, table, base, graphs, tmp_path):
    path, told = tmp_path / "cells.npz", []
    cells = empty.missing(graphs)
    with pytest.raises(MeasurementFailed, match="gone"):
        empty.filled(Additive(14), Subject(base), cells, path=path, batch=6, progress=lambda *at: told.append(at))
    assert (told[0], told[-1]) == ((1, len(cells)), (14, len(cells)))
    half = CellTable.load(path)
    assert (len(half), half.baselines_ms) == (12, (BASELINE_MS,) * 2)
    whole = half.filled(Additive(len(cells) - 12), Subject(base), half.missing(graphs), path=path)
    assert CellTable.load(path).readings == whole.readings == table.readings
    assert [each.name for each in tmp_path.iterdir()] == ["cells.npz"]
    with pytest.raises(InvalidInput, match="baseline: is another network"):
        half.filled(Additive(), Subject(graphs[1]), cells)


def test_a_saved_table_prices_as_before(table, base, patches, tmp_path):
    table.save(tmp_path / "cells.npz")
    read = CellTable.load(tmp_path / "cells.npz")
    assert (read.platform, read.runtime, read.baseline) == ("desk", "litert 2.3.0", base.fingerprint())
    assert np.array_equal(read.price(base, patches).high_ms, table.price(base, patches).high_ms)


def test_no_damaged_file_is_read(table, tmp_path):
    path = tmp_path / "cells.npz"
    table.save(path)
    content = path.read_bytes()
    arrays, about = read_arrays(content)
    damaged = [b"", b"no archive", content[: len(content) // 2]]
    damaged += [
        write_arrays({**arrays, name: value}, about)
        for name, value in (
            ("ratio", arrays["ratio"][:-1]),
            ("ratio", -arrays["ratio"]),
            ("high_ratio", np.full_like(arrays["ratio"], np.nan)),
            ("low_ratio", arrays["high_ratio"] * 2),
            ("noisy", arrays["ratio"]),
            ("fingerprint", arrays["ratio"]),
            ("baselines_ms", np.empty(0)),
        )
    ]
    damaged += [write_arrays(arrays, {**about, "format": "other"}), write_arrays(arrays, {**about, "runtime": 3})]
    damaged += [write_arrays({}, about), write_arrays(arrays, [1])]
    for number, wrong in enumerate(damaged):
        path.write_bytes(wrong)
        with pytest.raises(InvalidInput, match=r"table: 'cells.npz' is no table of cells"):
            pytest.fail(f"{number} was read: {CellTable.load(path)}")
    path.write_bytes(write_arrays(arrays, {**about, "version": 2}))
    with pytest.raises(VersionMismatch, match=r"'cells.npz' is of the version 2"):
        CellTable.load(path)
    with pytest.raises(InvalidInput, match=r"'absent.npz' is no table of cells"):
        CellTable.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("step", range(7))
def test_whatever_byte_is_wrong_it_is_refused_or_changes_nothing(table, tmp_path, step):
    path = tmp_path / "cells.npz"
    table.save(path)
    content = path.read_bytes()
    for place in range(step, len(content), max(len(content) // 40, 1)):
        path.write_bytes(content[:place] + bytes([content[place] ^ (0xFF >> step)]) + content[place + 1 :])
        try:
            read = CellTable.load(path)
        except (InvalidInput, VersionMismatch):
            continue
        assert read.readings == table.readings


def test_a_real_device_measures_cells_of_floats_and_of_whole_numbers(base, patches, graphs, empty):
    pytest.importorskip("ai_edge_litert", reason="needs the extra `export`")
    from leti.compression.measuring.at_hand import BenchMeter
    from leti.device_agents.desktop.bench import DesktopBench
    from leti.device_agents.timing import Protocol

    chosen = [0, 3, -1]  # as it is, of low rank, in whole numbers
    bench = DesktopBench("litert", protocol=Protocol(passes=1, retries=0, pass_ms=1, reference_ms=1, warmup_ms=1))
    try:
        cells = empty.missing([graphs[i] for i in chosen])
        table = empty.filled(BenchMeter(bench, batch=len(cells)), Subject(base), cells)
    finally:
        bench.close()
    costs = table.price(base, [patches[i] for i in chosen])
    assert (costs.latency_ms > table.readings[idle_network().fingerprint()].ratio * table.baseline_ms).all()
    assert (costs.high_ms >= costs.latency_ms).all()
