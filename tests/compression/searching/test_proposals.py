"""Proposals fit the network, alone and together; plans of them are built end to end, and what they harm is kept."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.building import built
from leti.compression.reconstructing import Reference
from leti.compression.searching.candidates import Costs, priced
from leti.compression.searching.harming import cross_entropy, divergence, harms, weight_errors
from leti.compression.searching.proposals import fitted, proposals
from leti.compression.searching.solver import solve
from leti.compression.training.data import Data
from leti.core.errors import InvalidInput
from leti.core.graph import TensorType
from leti.core.patches import Patch
from leti.generator.builder import GraphBuilder
from leti.generator.compressing.factors import factors
from leti.generator.compressing.patching import Patching
from leti.generator.importers import Imported
from leti.generator.weights import random_weights


def imported(builder: GraphBuilder, value: int) -> Imported:
    graph = builder.graph(value)
    return Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, 1))


@pytest.fixture(scope="module")
def chain() -> Imported:
    builder, value = GraphBuilder(TensorType((1, 8, 8, 3))), 0
    for channels in (16, 32, 48):
        value = builder.relu(builder.conv(value, channels, 3))
    return imported(builder, builder.fully_connected(builder.global_mean(value), 10))


@pytest.fixture(scope="module")
def residual() -> Imported:
    builder = GraphBuilder(TensorType((1, 8, 8, 3)))
    first = builder.relu(builder.conv(0, 32, 3))
    inner = builder.relu(builder.conv(builder.relu(builder.conv(first, 24, 1)), 32, 3))
    both = builder.add([first, inner])
    beside = builder.concat([both, builder.conv(first, 24, 3)])
    return imported(builder, builder.fully_connected(builder.global_mean(builder.conv(beside, 40, 1)), 5))


def staircase(patching: Patching, patches) -> Costs:
    """Price channels by the eight, which is no sum of what groups cost alone."""

    def cost(op) -> float:
        made, read = op.outputs[0].shape[-1], op.inputs[0].shape[-1]
        return op.macs / (made * read) * (-(-made // 8)) * (-(-read // 8)) * 64 + 50 if op.macs else 0.0

    graphs = [patching.patched(patch).graph for patch in patches]
    return Costs.of([sum(map(cost, graph.ops)) for graph in graphs], macs=[graph.macs for graph in graphs])


def test_a_place_may_be_narrowed_taken_apart_or_both(chain):
    found = proposals(chain)
    assert [(place.operators, place.channels) for place in found.places] == [((0,), 16), ((2,), 32), ((4,), 48)]
    assert found.neighbours == ((0, 1), (1, 2))
    for place in found.places:
        assert (place.patches[0], place.kept[0]) == (Patch(), 1.0)
        widths = {width for patch in place.patches for width in patch.widths.values()}
        assert any(width % 4 for width in widths)
        assert sum(width % 4 == 0 for width in widths) >= 3
        assert max(widths) < place.channels
        assert len({str(patch) for patch in place.patches}) == len(place.patches)
        for patch, kept in zip(place.patches, place.kept, strict=True):
            assert kept == pytest.approx(patch.widths.get(place.operators[0], place.channels) / place.channels)
            graph = found.patching.patched(patch).graph
            assert graph.macs < chain.graph.macs or patch == Patch()
            assert fitted(found.patching, patch) == patch
    last = found.places[-1].patches
    assert any(p.ranks and p.widths for p in last)
    assert any(p.ranks and not p.widths for p in last)
    assert not any(patch.ranks for place in found.places[:2] for patch in place.patches)  # 16 channels on a side
    assert not any(p.ranks for place in proposals(chain, {"prune"}).places for p in place.patches)
    (only,) = proposals(chain, {"low_rank"}).places
    assert only.operators == (4,)
    assert all(0 < kept < 1 for kept in only.kept[1:])
    told = proposals(chain, widths={3: (5, 12, 32, 40)}, ranks={4: [(7, 6)]}, protected=[0])
    assert [patch.widths for patch in told.places[0].patches] == [{}, {2: 5}, {2: 12}]
    assert {p.ranks[4] for p in told.places[1].patches if p.ranks} == {(7, 6)}
    for more, field in (({"widths": {99: (3,)}}, "widths[99]"), ({"ranks": {1: [(3,)]}}, "ranks[1]")):
        with pytest.raises(InvalidInput) as raised:
            proposals(chain, **more)
        assert raised.value.field == field


def test_ranks_follow_what_a_narrow_input_allows(chain):
    patching = Patching(chain.graph)
    assert fitted(patching, Patch({2: 8}, {4: (11, 9)}, "full_integer")) == Patch({2: 8}, {4: (8, 9)}, "full_integer")
    assert fitted(patching, Patch({2: 1}, {4: (11, 9)})) == Patch({2: 1})  # nothing would be saved
    kept = fitted(patching, Patch({2: 8}, {4: (11, 9)}))
    narrow = patching.patched(Patch({2: 8})).graph.ops[4]
    assert sum(op.macs for _, op in factors(narrow, kept.ranks[4], "")) < narrow.macs
    assert fitted(patching, Patch(ranks={4: (24, 24)})) == Patch(ranks={4: (24, 24)})  # as it was asked


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_plans_are_built_as_they_were_priced(name, request):
    base = request.getfixturevalue(name)
    found = proposals(base)
    rises = weight_errors(base, found)
    price = partial(staircase, found.patching)
    problem = priced(found.candidates(rises), found.neighbours, price, precision="float32", fit=found.fit)
    rng, reference = random.Random(2), Reference.of(base, np.random.default_rng(0).random((4, 8, 8, 3), np.float32))
    drawn = [problem.plan([rng.randrange(len(g.patches)) for g in problem.groups]) for _ in range(12)]
    dense = problem.dense()
    front = solve(problem, [dense.latency_ms / factor for factor in (1.5, 2.0, 4.0)])
    plans = [solved.plan for solved in front.solved]
    assert None not in plans
    assert plans[0].sensitivity > plans[-1].sensitivity
    for plan in (*drawn, *plans, front.cheapest):
        patch = problem.patch(plan)
        assert patch.precision == "float32"
        made = built(base, patch, reference=reference)
        assert made.graph == found.patching.patched(Patch(patch.widths, patch.ranks)).graph
        if name == "chain":  # no three groups meet in one kernel
            assert made.graph.macs == pytest.approx(plan.macs)
            assert staircase(found.patching, [patch]).latency_ms[0] == pytest.approx(plan.latency_ms)


def test_residuals_are_one_place_and_what_reads_several_is_beside_each(residual):
    found = proposals(residual)
    by = {operator: i for i, place in enumerate(found.places) for operator in place.operators}
    convs = [i for i, op in enumerate(residual.graph.ops) if op.kind == "conv2d"]
    stem, inner, second, beside, last = (by[i] for i in convs)
    assert stem == second
    pairs = {(stem, inner), (stem, beside), (stem, last), (beside, last)}
    assert set(found.neighbours) == {(min(pair), max(pair)) for pair in pairs}


def test_harms_are_kept_over_an_interruption(chain, tmp_path):
    rng = np.random.default_rng(0)
    inputs, classes = rng.random((40, 8, 8, 3), np.float32), rng.integers(0, 10, 40)
    data = Data(2, lambda _: [(inputs[:24], classes[:24]), (inputs[24:], classes[24:])], list, list)
    found, made = proposals(chain, {"prune"}, widths={0: (4, 8, 12), 2: (5, 16, 24), 4: (12,)}), []
    total = 1 + sum(len(place.patches) - 1 for place in found.places)

    def build(base: Imported, patch: Patch) -> Imported:
        made.append(patch)
        if len(made) == 7:
            raise KeyboardInterrupt
        return built(base, patch)

    kept = {"cache": tmp_path, "evaluation": "divergence on noise, by l1"}
    score = divergence(chain, inputs)
    with pytest.raises(KeyboardInterrupt):
        harms(chain, found, score, build, **kept)
    told: list[tuple[int, int]] = []
    rises = harms(chain, found, score, build, **kept, progress=lambda *counts: told.append(counts))
    assert len(made) == total  # the seventh twice, the unchanged one never
    assert told == [(i + 1, total) for i in range(total)]
    assert rises == harms(chain, found, score, built)
    for place, row in zip(found.places, rises, strict=True):
        assert (len(row), row[0]) == (len(place.patches), 0)
        assert min(row[1:]) > 0
    losses = harms(chain, found, cross_entropy(data, samples=30), built)
    assert losses != rises
    assert losses[0][0] == 0
    lost = weight_errors(chain, found)
    widths = [(patch.widths[0], error) for patch, error in zip(found.places[0].patches[1:], lost[0][1:], strict=True)]
    assert [error for _, error in sorted(widths)] == sorted((error for _, error in widths), reverse=True)
    assert all(0 < error < 1 for row in lost for error in row[1:])
