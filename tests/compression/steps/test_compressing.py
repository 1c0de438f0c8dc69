"""A whole compression on a device that is a formula: what it answers to budgets that can and cannot be kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression import Speedup, Within, compress
from leti.compression.measuring.meter import Meter
from leti.compression.pricing.by_cells import CellTable
from leti.compression.quantizing.running import outputs_of_file
from leti.compression.results import Compression
from leti.compression.steps.asking import Asked, for_one_sample
from leti.compression.steps.precision import REMEDIES, quantised
from leti.compression.steps.run import Run
from leti.compression.steps.searching import LEAST_USED
from leti.compression.steps.work import Work, json_form
from leti.compression.targets import Target
from leti.compression.training.data import Data
from leti.compression.training.executing import outputs
from leti.compression.training.fine_tuning import Recipe
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.patching import patched
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def target(network: Imported, meter: Meter | None, table: CellTable | None = None) -> Target:
    prices = table or CellTable("tiled", "tiles", network.graph.fingerprint())
    return Target("tiled", {"float32": prices, "dynamic_range": prices, "full_integer": prices}, meter)


def taken(device: Meter, network: Imported, found: Compression) -> float:
    assert found.best is not None
    return device.latency_ms(patched(network.graph, found.best.patch).graph)


def test_a_budget_is_kept_and_used_and_no_rival_that_keeps_it_harms_less(network: Imported, device: Meter):
    asked = {"budget": Speedup(2), "methods": ("prune", "low_rank"), "evaluations": 100}
    found = compress(network, platform=target(network, device), **asked)
    assert found.verdict == "met"
    assert LEAST_USED * found.budget_ms <= taken(device, network, found) <= found.budget_ms
    assert found.best.reading.latency_ms == pytest.approx(taken(device, network, found))
    for rival in found.rivals:
        keeps = rival.reading.latency_ms <= found.budget_ms
        assert not keeps or rival.sensitivity >= found.best.sensitivity - 1e-9, rival.planner
    by_macs = next(rival for rival in found.rivals if rival.planner == "macs")
    assert by_macs.macs <= found.baseline.macs / 2
    assert by_macs.reading.latency_ms > found.best.reading.latency_ms
    assert found.held_out.mape < 0.02
    assert found.best.accuracy is None
    assert found.best.epochs == 0
    assert set(found.models) == {"tflite", "onnx", "pt2"}
    latencies = [plan.predicted_ms for plan in found.front]
    assert latencies == sorted(latencies)
    assert sum(layer.macs_after for layer in found.layers) == pytest.approx(found.best.macs)
    assert sum(layer.predicted_ms_before for layer in found.layers) == pytest.approx(
        device.latency_ms(network.graph) - 0.02, rel=0.05
    )


def test_a_budget_below_what_can_be_reached_is_infeasible_and_the_least_is_told(network: Imported, device: Meter):
    found = compress(
        network, platform=target(network, device), budget=Within(0.021), methods=("prune",), rivals=(), held_out=0
    )
    assert found.verdict == "infeasible"
    assert found.reachable_ms > found.budget_ms
    assert f"{found.reachable_ms:.4g} ms" in found.summary
    assert found.best.reading.latency_ms == pytest.approx(found.reachable_ms, rel=0.05)
    assert not found.rivals


def test_under_whole_numbers_no_candidate_is_taken_that_is_slower_than_the_dense_one(network: Imported, device: Meter):
    dense_ms = device.latency_ms(patched(network.graph, Patch(precision="full_integer")).graph)
    asked = {
        "methods": ("quantize", "prune"),
        "rivals": (),
        "held_out": 0,
        "max_drop": 0.99,
        "recipe": Recipe(epochs=0),
    }
    found = compress(network, platform=target(network, device), budget=Within(0.7 * dense_ms), data=noise(), **asked)
    assert found.best.patch.precision == "full_integer"
    assert found.best.reading.latency_ms <= 0.7 * dense_ms
    assert found.best.patch.widths
    assert all(width % 16 == 0 for width in found.best.patch.widths.values())  # others take three times as long
    assert found.best.accuracy is not None
    easy = compress(network, platform=target(network, device), budget=Within(dense_ms), data=noise(), **asked)
    assert easy.verdict == "met by precision"
    assert easy.best.patch == Patch(precision="full_integer")


def test_whole_numbers_need_no_prices_where_files_are_measured(network: Imported, device: Meter):
    dense_ms = device.latency_ms(patched(network.graph, Patch(precision="full_integer")).graph)
    here = Target("tiled", {"float32": CellTable("tiled", "tiles", network.graph.fingerprint())}, device, "onnx")
    asked = {"methods": ("quantize", "prune"), "rivals": (), "held_out": 0, "recipe": Recipe(epochs=0), "data": noise()}
    met = compress(network, platform=here, budget=Within(dense_ms), max_drop=0.99, **asked)
    assert met.verdict == "met by precision"
    assert met.models["onnx"]
    beyond = compress(network, platform=here, budget=Within(0.7 * dense_ms), max_drop=0.99, **asked)
    assert any("has no prices here: the search is in float32" in note for note in beyond.notes)
    assert beyond.best is None or beyond.best.patch.precision == ""


def test_what_wins_accuracy_back_makes_files_that_do_what_their_networks_do(network: Imported, device: Meter):
    data = noise()
    asked = Asked(network, target(network, device), Speedup(2), data, recipe=Recipe(epochs=2))
    run = Run(asked, Work(None), lambda *_: None, asked.identity())
    plain = quantised(run, "as it is", network, "full_integer")
    budget_ms = 0.7 * device.latency_ms(network.graph)
    (images,) = data.calibrate()
    found = [remedy(run, plain, budget_ms) for remedy in REMEDIES]
    for each in (plain, *found):
        wanted = outputs(each.source, [images])[0]
        made = outputs_of_file(each.content, "tflite", each.source.graph, [images])[0]
        assert np.abs(made - wanted).max() < 0.15 * np.abs(wanted).max(), each.how
    assert len({each.content for each in (plain, *found)}) == len(found) + 1
    (mixed,) = [each for each in found if each.kept]
    assert plain.latency_ms < mixed.latency_ms <= budget_ms


def noise() -> Data:
    """Return images and classes that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 16, 16, 1)).astype(np.float32)
    batch = images, rng.integers(0, 10, 16)
    return Data(1, lambda _: [batch], lambda: [batch], lambda: [images])


def test_a_network_that_keeps_its_budget_is_returned_as_it_is(network: Imported, device: Meter):
    found = compress(network, platform=target(network, device), budget=Within(1e3))
    assert found.verdict == "met"
    assert not found.best.patch.widths
    assert found.models["tflite"]


def test_a_run_that_was_broken_off_goes_on_where_it_was_and_its_table_serves_without_a_device(
    network: Imported, device: Meter, tmp_path: Path
):
    class Broken(Exception):
        pass

    def until_the_end(step: str, done: int, total: int) -> None:
        if step == "export":
            raise Broken

    asked = {"budget": Speedup(2), "methods": ("prune",), "rivals": ("macs",), "held_out": 2}
    with pytest.raises(Broken):
        compress(network, platform=target(network, device), progress=until_the_end, out=tmp_path, **asked)
    before = list(device.calls)
    assert len(before) >= 4  # the baseline, cells, a round, the best again
    found = compress(network, platform=target(network, device), out=tmp_path, **asked)
    assert len(device.calls) == len(before) + 2  # the best, which was broken off, and it beside its rivals
    assert not list(tmp_path.rglob("*.part"))
    undisturbed = compress(network, platform=target(network, type(device)()), **asked)
    assert found.best == undisturbed.best
    read = Compression.load(tmp_path)
    assert read == replace(found, seconds=read.seconds)
    (cells,) = (tmp_path / "work").glob("cells-*.npz")
    offline = compress(network, platform=target(network, None, CellTable.load(cells)), **asked)
    assert offline.verdict == "not measured"
    assert offline.best.reading is None
    assert offline.best.high_ms <= offline.budget_ms


def test_products_are_made_once_and_again_where_they_are_damaged(tmp_path: Path):
    made: list[int] = []

    def make() -> tuple[int, ...]:
        made.append(1)
        return (1, 2)

    form = json_form(tuple[int, ...])
    for _ in range(2):
        assert Work(tmp_path).kept("step", "name", ["key"], form, make) == (1, 2)
    assert len(made) == 1
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert Work(tmp_path).kept("step", "name", ["key"], form, make) == (1, 2)
    assert Work(tmp_path).kept("step", "name", ["other"], form, make) == (1, 2)
    assert len(made) == 3


def test_a_network_of_many_samples_becomes_one_of_one_that_computes_the_same():
    builder = GraphBuilder(TensorType((6, 8, 8, 3)))
    value = builder.relu(builder.conv(0, 6, 3, 2))
    value = builder.fully_connected(builder.place("reshape", (value,), (6, 96)), 10)
    graph = builder.graph(value)
    many = Imported(graph, ("",) * len(graph.ops), random_weights(graph, 0))
    one = for_one_sample(many)
    images = np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32)
    assert one.graph.inputs[0].shape == (1, 8, 8, 3)
    assert one.graph.macs * 6 == many.graph.macs
    for sample in range(6):
        alone = outputs(one, [images[sample : sample + 1]])[0]
        assert np.allclose(alone, outputs(many, [images])[0][sample], atol=1e-5)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("budget", {"budget": 2}),
        ("max_drop", {"max_drop": 1.5}),
        ("methods", {"methods": ("shrink",)}),
        ("methods", {"methods": ()}),
        ("data", {"data": "digits"}),
        ("rivals", {"rivals": ("latency",)}),
        ("evaluations", {"evaluations": 0}),
        ("held_out", {"held_out": -1}),
        ("client", {"platform": "desk-1"}),
    ],
)
def test_what_is_asked_wrongly_is_named(network: Imported, device: Meter, field: str, wrong: dict[str, object]):
    asked = {"platform": target(network, device), "budget": Speedup(2), **wrong}
    with pytest.raises(InvalidInput) as caught:
        compress(network, **asked)
    assert caught.value.field == field
    assert not device.calls
