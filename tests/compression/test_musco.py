"""MUSCO's loop on a network that learns its outputs by least squares: stages, ends, and going on after a break."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.low_rank.applying import LowRank
from leti.compression.low_rank.decompositions import svd, tucker2
from leti.compression.low_rank.musco import Progress, Target, compress_in_stages
from leti.compression.low_rank.rules import by_latency, by_noise, by_reduction
from leti.compression.training.executing import executable, outputs, weights_of
from leti.core.codec import from_json, to_json
from leti.core.errors import InvalidInput
from leti.core.graph import Graph, TensorType
from leti.generator.cost import make_operator
from leti.generator.importers import Imported

IMAGES = np.random.default_rng(7).standard_normal((64, 6, 6, 3), dtype=np.float32)


def noisy(kernel: np.ndarray, rng: np.random.Generator, share: float = 0.03) -> np.ndarray:
    return (kernel + share * kernel.std() * rng.standard_normal(kernel.shape)).astype(np.float32)


def network() -> Imported:
    """Convolutions of 64 and 48 channels of planted ranks, a stem that is too narrow, a dense layer of rank 9."""
    rng = np.random.default_rng(0)
    shapes = [(64, 3, 3, 3), (48, 3, 3, 64), (48, 1, 1, 48), (40, 48)]
    kinds = [("conv2d", (64, 6, 6, 64)), ("conv2d", (64, 3, 3, 48)), ("conv2d", (64, 3, 3, 48)), ("mean", (64, 48))]
    value, ops = TensorType(IMAGES.shape), []
    for (kind, shape), filters in zip(
        [*kinds, ("fully_connected", (64, 40))], [*shapes[:3], (), shapes[3]], strict=True
    ):
        attributes = {"axes": (1, 2)} if kind == "mean" else {}
        if kind == "conv2d":
            stride = value.shape[1] // shape[1]
            attributes = {"kernel": filters[1:3], "strides": (stride, stride), "padding": "same"}
        output = TensorType(shape)
        ops.append(make_operator(kind, (value,), (output,), tuple(sorted(attributes.items()))))
        value = output
    graph = Graph((TensorType(IMAGES.shape),), tuple(ops), tuple((i,) for i in range(5)), (5,))
    dense = [rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) for shape in shapes]
    kernels = [
        dense[0],
        noisy(tucker2(dense[1], (11, 9)).kernel(), rng),
        noisy(svd(dense[2], (8,)).kernel(), rng),
        noisy(svd(dense[3], (9,)).kernel(), rng),
    ]
    weights = [(kernel.astype(np.float32), np.zeros(len(kernel), np.float32)) for kernel in kernels]
    return Imported(graph, ("stem", "conv", "point", "mean", "head"), (*weights[:3], (), weights[3]))


BASE = network()
(TRUTH,) = outputs(BASE, [IMAGES])


def least_squares(imported: Imported) -> Imported:
    """Fit the last layer's filters and bias to the base's outputs, exactly."""
    *_, features = outputs(imported, [IMAGES], [imported.graph.wiring[-1][0]])
    padded = np.hstack([features, np.ones((len(features), 1), np.float32)])
    solved = np.linalg.lstsq(padded, TRUTH, rcond=None)[0].T.astype(np.float32)
    return Imported(imported.graph, imported.names, (*imported.weights[:-1], (solved[:, :-1], solved[:, -1])))


def same(imported: Imported) -> Imported:
    return imported


def missed(imported: Imported) -> float:
    (found,) = outputs(imported, [IMAGES])
    return float(np.linalg.norm(found - TRUTH) / np.linalg.norm(TRUTH))


def milliseconds(graph: Graph) -> float:
    """A device for which an operator takes a while, and multiply-accumulates take time."""
    return sum(0.01 + op.macs / 4e7 for op in graph.ops)


def test_stages_go_on_until_ranks_settle_at_those_of_the_signal():
    stages = list(compress_in_stages(BASE, by_noise(0.7), same, Target(), latency_ms=milliseconds))
    assert [progress.end for progress, _ in stages] == [""] * (len(stages) - 1) + ["settled"]
    final = stages[-1][0].stages
    assert [stage.number for stage in final] == list(range(len(stages)))
    assert final[0].macs == BASE.graph.macs
    assert final[0].ranks == {}
    assert 0 not in final[-1].ranks  # three channels
    assert final[1].ranks == {1: (26, 20), 2: (20,), 4: (18,)}  # R − 0.7 (R − R_extr), rounded down
    assert final[2].ranks == {1: (15, 20), 2: (20,), 4: (18,)}  # ranks under 21 are left alone
    assert len(final) == 3
    for before, after, (_, made) in zip(final, final[1:], stages[1:], strict=False):
        assert after.macs < before.macs
        assert after.params < before.params
        assert after.errors
        assert all(0 < error < 0.1 for error in after.errors.values())
        assert after.latency_ms == pytest.approx(milliseconds(made.graph))
        assert after.macs == made.graph.macs
    assert missed(stages[-1][1]) < 0.1


def test_the_target_ends_it_and_tuning_mends_what_was_cut():
    target = Target(macs=int(BASE.graph.macs / 2))
    found = [list(compress_in_stages(BASE, by_reduction(1.4), tune, target)) for tune in (same, least_squares)]
    for stages in found:
        progress, made = stages[-1]
        assert progress.end == "target met"
        assert made.graph.macs <= target.macs < stages[-2][0].stages[-1].macs
        assert progress.stages[-1].ranks.keys() >= {1, 2}
    assert missed(found[1][-1][1]) < 0.5 * missed(found[0][-1][1])


def test_targets_in_ms_are_met_by_ranks_from_latencies():
    def tiled(layer, ranks):
        """Channels come in tiles of 16, and three operators cost more than one to begin."""
        if not layer.ranks and ranks[0] == ():
            dense = 4.0 if layer.number == 1 else 1.0
        return [0.5 + 0.5 * sum(-(-rank // 16) for rank in each) if each else dense for each in ranks]

    asked = by_latency(1.5, tiled)
    layers = {layer.number: layer for layer in LowRank.of(BASE).layers()}
    assert asked(layers[1]) == (32, 24)  # two tiles each, as many channels as fit along the line
    assert asked(layers[2]) == ()  # an SVD takes as long at any rank
    target = Target(latency_ms=milliseconds(BASE.graph) * 0.75)
    *_, (progress, made) = compress_in_stages(BASE, asked, least_squares, target, latency_ms=milliseconds)
    assert progress.end == "target met"
    assert milliseconds(made.graph) <= target.latency_ms
    assert set(progress.stages[-1].ranks) == {1}
    with pytest.raises(InvalidInput) as caught:
        list(compress_in_stages(BASE, asked, same, target))
    assert caught.value.field == "target.latency_ms"


def test_what_was_interrupted_goes_on_as_if_it_had_not_been():
    def run(**more):
        return compress_in_stages(more.pop("start", BASE), by_noise(0.5), least_squares, Target(), **more)

    whole = list(run())
    assert len(whole) > 3
    stages = run()
    next(stages)
    progress, made = next(stages)
    kept = json.loads(json.dumps(to_json(progress)))  # and the network as a file of any format
    restored = from_json(Progress, kept)
    assert restored == progress
    resumed = list(run(start=made, base=BASE.graph, progress=restored))
    assert [p for p, _ in resumed] == [p for p, _ in whole[2:]]
    for mine, theirs in zip(resumed[-1][1].weights, whole[-1][1].weights, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(InvalidInput):
        next(run(start=BASE, base=BASE.graph, progress=restored))


def test_cp_goes_on_by_its_core_and_stages_may_run_out():
    *_, (progress, made) = compress_in_stages(BASE, by_reduction(4, "cp"), same, Target(macs=1), most_stages=2)
    assert progress.end == "stages used up"
    first, second = (stage.ranks[1] for stage in progress.stages[1:])
    assert len(first) == 1
    assert second < first
    assert sum(op.kind == "depthwise_conv2d" for op in made.graph.ops) == 2


def test_a_network_is_tuned_by_pytorch_between_stages():
    import torch

    def tune(imported: Imported) -> Imported:
        module = executable(imported)
        for step in range(60):
            (made,) = module(torch.from_numpy(IMAGES))
            ((made - torch.from_numpy(TRUTH)) ** 2).sum().backward()
            for parameter in module.parameters():
                parameter.data -= 0.05 * 0.92**step * parameter.grad / (parameter.grad.norm() + 1e-6)
                parameter.grad = None
        return weights_of(module, imported)

    stages = [list(compress_in_stages(BASE, by_reduction(1.6), by, Target(), most_stages=2)) for by in (same, tune)]
    left, mended = (missed(found[-1][1]) for found in stages)
    assert mended < 0.9 * left
    assert stages[0][-1][0].stages[-1].macs == stages[1][-1][0].stages[-1].macs


def test_a_tuning_that_changes_the_graph_and_rules_that_reduce_nothing_are_refused():
    with pytest.raises(InvalidInput) as caught:
        list(compress_in_stages(BASE, by_noise(), lambda _: BASE, Target()))
    assert caught.value.field == "imported"
    for make in (lambda: by_reduction(1.0), lambda: by_latency(1.0, lambda *_: [])):
        with pytest.raises(InvalidInput) as caught:
            make()
        assert caught.value.field == "factor"
