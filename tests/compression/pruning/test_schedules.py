"""Pruning in steps, of channels and of single weights: as much as was said, no more than has to be."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti.compression.pruning.elementwise import (
    global_masks,
    level_masks,
    masked,
    size_report,
    threshold_masks,
    zero_share,
)
from leti.compression.pruning.schedules import CURVES, PruningSpec, Schedule, Stop, prune, read_spec
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


@pytest.fixture(scope="module")
def chain() -> Imported:
    """Three convolutions of 32, 48 and 64 channels, a mean and a dense layer."""
    builder = GraphBuilder(TensorType((1, 16, 16, 3)))
    value = 0
    for channels in (32, 48, 64):
        value = builder.relu(builder.conv(value, channels, 3))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    return Imported(graph, tuple(f"{op.kind} {i}" for i, op in enumerate(graph.ops)), random_weights(graph, 0))


def widths(imported: Imported) -> list[int]:
    return [group.channels for group in channel_groups(imported.graph) if not group.fixed]


@given(st.sampled_from(sorted(CURVES)), st.floats(0, 0.5), st.floats(0.51, 0.99), st.integers(1, 50))
def test_levels_rise_to_the_last(curve, initial, final, steps):
    levels = Schedule(final, steps, curve, initial).levels()
    assert len(levels) == steps
    assert levels[-1] == pytest.approx(final)
    assert all(initial < a <= b + 1e-12 for a, b in itertools.pairwise(levels))


def test_levels_by_hand():
    # "To prune, or not to prune", formula 1: s_t = s_f + (s_i - s_f) (1 - t / n)^3
    assert Schedule(0.8, 4, "agp").levels() == pytest.approx((0.8 * (1 - 27 / 64), 0.7, 0.8 * (1 - 1 / 64), 0.8))
    assert Schedule(0.8, 4, "linear", 0.4).levels() == pytest.approx((0.5, 0.6, 0.7, 0.8))
    assert Schedule(0.75, 2, "exponential").levels() == pytest.approx((0.5, 0.75))


def test_one_shot_and_in_steps(chain):
    once = prune(chain, PruningSpec(Schedule(0.5)))
    assert widths(once.imported) == [16, 24, 32]
    assert [step.level for step in once.steps] == [0.5]
    trained = []
    spec = PruningSpec(Schedule(0.5, 4), criterion="l2", round_to=8)
    slowly = prune(chain, spec, fine_tune=lambda imported: trained.append(widths(imported)) or imported)
    assert widths(slowly.imported) == [16, 24, 32]
    assert trained[-1] == [16, 24, 32]
    assert [width % 8 for found in trained for width in found] == [0] * 12
    assert [step.macs for step in slowly.steps] == sorted((step.macs for step in slowly.steps), reverse=True)
    # What was kept are the largest filters.
    norms = np.abs(chain.weights[0][0]).reshape(32, -1).sum(axis=1)
    kept = np.sort(np.argsort(-norms)[:16])
    assert (once.imported.weights[0][0] == chain.weights[0][0][kept]).all()


def test_stops_where_it_is_met_and_takes_no_more(chain):
    budget = chain.graph.macs // 3
    found = prune(chain, PruningSpec(Schedule(0.9, 6, "linear"), Stop(macs=budget)))
    assert found.met
    assert 0.85 * budget <= found.imported.graph.macs <= budget
    assert len(found.steps) < 6

    def staircase(graph):  # as runtimes have it: channels in blocks of 16
        return sum(-(-op.outputs[0].shape[-1] // 16) * -(-op.inputs[0].shape[-1] // 16) for op in graph.ops if op.macs)

    before = staircase(chain.graph)
    asked = PruningSpec(Schedule(0.9, 6, "linear"), Stop(latency_ms=before / 3))
    found = prune(chain, asked, latency_ms=staircase)
    assert found.met
    assert found.steps[-1].latency_ms == staircase(found.imported.graph) <= before / 3
    smaller = [width for width in widths(found.imported) if width > 1]
    assert smaller
    found = prune(chain, PruningSpec(Schedule(0.3, 2), Stop(sparsity=0.9)))
    assert not found.met
    assert found.steps[-1].sparsity == pytest.approx(1 - found.imported.graph.params / chain.graph.params)
    with pytest.raises(InvalidInput) as raised:
        prune(chain, asked)
    assert raised.value.field == "stop.latency_ms"


def test_global_allocation_and_protection(chain):
    weights = [list(arrays) for arrays in chain.weights]
    convs = [i for i, op in enumerate(chain.graph.ops) if op.kind == "conv2d"]
    weights[convs[1]][0] = weights[convs[1]][0].copy()
    weights[convs[1]][0][:40] *= 1e-3  # most of the second's filters do nearly nothing
    skewed = replace(chain, weights=tuple(map(tuple, weights)))
    found = prune(skewed, PruningSpec(Schedule(0.25), allocation="global", least_channels=4))
    assert sum(widths(found.imported)) == pytest.approx(0.75 * 144, abs=1)
    first, second, third = widths(found.imported)
    assert second < 16
    assert first + third > 90
    found = prune(skewed, PruningSpec(Schedule(0.5), protected=(convs[0],)))
    assert widths(found.imported) == [32, 24, 32]
    with pytest.raises(InvalidInput, match="no channels"):
        prune(skewed, PruningSpec(Schedule(0.5), protected=tuple(convs)))


def test_single_weights_stay_zero_through_training(chain):
    def trains(imported):
        return replace(
            imported, weights=tuple(tuple(a + np.float32(0.01) for a in arrays) for arrays in imported.weights)
        )

    spec = PruningSpec(Schedule(0.8, 3), granularity="elements")
    found = prune(chain, spec, fine_tune=trains, latency_ms=lambda graph: graph.macs / 1e6)
    assert found.imported.graph is chain.graph
    assert zero_share(found.imported) == pytest.approx(0.8, abs=1e-3)
    assert len({step.latency_ms for step in found.steps}) == 1  # no zero is skipped
    found = prune(chain, replace(spec, stop=Stop(sparsity=0.6), allocation="global"))
    assert found.met
    assert 0.6 <= found.steps[-1].sparsity < 0.7


def test_masks_leave_out_the_smallest(chain):
    convs = [i for i, op in enumerate(chain.graph.ops) if op.kind == "conv2d"]
    by_level = level_masks(chain, {convs[0]: 0.5})
    filters = np.abs(chain.weights[convs[0]][0])
    kept = by_level[convs[0]][0]
    assert kept.sum() == filters.size // 2
    assert filters[kept].min() >= filters[~kept].max()
    assert by_level[convs[1]][0].all()
    everywhere = global_masks(chain, 0.9)
    left = [np.abs(chain.weights[i][0])[everywhere[i][0]] for i in (*convs, len(chain.graph.ops) - 1)]
    gone = [np.abs(chain.weights[i][0])[~everywhere[i][0]] for i in (*convs, len(chain.graph.ops) - 1)]
    assert min(values.min() for values in left if values.size) >= max(values.max() for values in gone if values.size)
    sparse = masked(chain, threshold_masks(chain, 0.5, in_deviations=True))
    # Of normal weights, 38.3 % lie within half a standard deviation.
    assert zero_share(sparse) == pytest.approx(0.383, abs=0.01)
    for level in (-0.1, 1.5, {0: 2.0}):
        with pytest.raises(InvalidInput, match="share"):
            level_masks(chain, level)
    with pytest.raises(InvalidInput, match="no filter"):
        level_masks(chain, {1: 0.5})


def test_zeros_pack_and_do_nothing_else(chain):
    dense, sparse = size_report(chain), size_report(masked(chain, level_masks(chain, 0.9)))
    assert dense.weights_bytes == sparse.weights_bytes == 4 * chain.graph.params
    assert sparse.zip_bytes < 0.25 * dense.zip_bytes
    assert sparse.zip_bytes < sparse.huffman_bytes < 0.5 * dense.huffman_bytes
    assert "no latency gain" in sparse.latency
    assert (dense.sparsity, sparse.sparsity) == (0.0, pytest.approx(0.9, abs=1e-3))


def test_specifications_are_plain_data():
    text = """
        criterion = "geometric_median"
        round_to = 8
        [schedule]
        final = 0.5
        steps = 10
        curve = "exponential"
        [stop]
        latency_ms = 12.0
    """
    expected = PruningSpec(
        Schedule(0.5, 10, "exponential"), Stop(latency_ms=12.0), criterion="geometric_median", round_to=8
    )
    assert read_spec(text) == expected
    assert read_spec('{"schedule": {"final": 0.5}}', "json") == PruningSpec(Schedule(0.5))
    for wrong, field in (
        ("criterion = 'l1'", "spec.schedule"),
        ("[schedule]\nfinal = 1.5", "spec.schedule.initial"),
        ("[schedule]\nfinal = 0.5\nsteps = 0", "spec.schedule.steps"),
        ("[schedule]\nfinal = 0.5\ncurve = 'cubic'", "spec.schedule.curve"),
        ("criterion = 'l3'\n[schedule]\nfinal = 0.5", "spec.criterion"),
        ("granularity = 'elements'\nschedule.final = 0.5\nstop.macs = 7", "spec.stop"),
        ("schedule.final = ", "spec"),
    ):
        with pytest.raises(InvalidInput) as raised:
            read_spec(wrong)
        assert raised.value.field == field, wrong
