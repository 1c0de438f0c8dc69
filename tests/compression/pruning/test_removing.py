"""Channels are removed: what computed nothing is gone, and nothing else changes; graphs are those of patches."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from leti.compression.pruning.removing import removed
from leti.core.errors import InvalidInput
from leti.core.patches import Patch
from leti.core.spec import NetworkConfig
from leti.generator.compressing.groups import PRODUCERS, channel_groups, find_channels, kept_positions
from leti.generator.compressing.patching import patched
from leti.generator.export.onnx import export_onnx
from leti.generator.importers import Imported
from leti.generator.lowering import lower
from leti.generator.spaces import SPACES
from leti.generator.weights import random_weights, weight_names

SMALL = NetworkConfig(input_shape=(16, 16, 3), stem_channels=8, stacks=2, modules_per_stack=1)
SPACES_TRIED = {
    "nasbench101": SMALL,
    "nasbench201": SMALL,
    "chains": NetworkConfig(input_shape=(16, 16, 3)),
    "darts": SMALL,
    "random": NetworkConfig(input_shape=(32, 32, 3)),
    "fbnet": NetworkConfig(input_shape=(32, 32, 3)),
    "mobilenetv3": NetworkConfig(input_shape=(32, 32, 3), classes=10),
}

ACROSS = {"layer_norm", "local_response_norm", "rms_norm"}
"""What computes with all channels at once: one that is gone makes a difference, whatever was in it."""


def run(imported: Imported, batch: np.ndarray) -> np.ndarray:
    model = export_onnx(imported.graph, weights=imported.weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (read,) = session.get_inputs()
    moved = np.ascontiguousarray(np.moveaxis(batch, -1, 1)) if list(batch.shape) != read.shape else batch
    return session.run(None, {read.name: moved})[0]


def emptied(imported: Imported, kept: dict[int, list[int]], side: str = "makers") -> Imported:
    """Return the network with zeros in all that makes, or works on, a channel that is not kept; or in what reads it.

    What reads nothing of a channel need not care what activations make of it; what is made of nothing they must keep.
    """
    graph, channels = imported.graph, find_channels(imported.graph)
    sizes = [group.channels for group in channels.groups]
    types = [*graph.inputs, *(t for op in graph.ops for t in op.outputs)]
    gone = [
        sorted(set(range(t.shape[-1] if t.shape else 0)) - set(kept_positions(axis, sizes, kept)))
        for t, axis in zip(types, channels.axes, strict=True)
    ]
    weights = [[array.copy() for array in arrays] for arrays in imported.weights]
    for i, (op, value) in enumerate(zip(graph.ops, graph.first_values(), strict=True)):
        makes = op.kind in PRODUCERS and op.kind != "embedding"  # whose filters lie with the output channels first
        for position, array in enumerate(weights[i]):
            if side == "readers":
                if makes and position == 0:
                    array[..., gone[graph.wiring[i][0]]] = 0
            elif makes:
                array[gone[value]] = 0
            elif "variance" not in weight_names(op)[position : position + 1] and array.ndim:
                array[..., gone[value] if array.shape[-1] == op.outputs[0].shape[-1] else []] = 0
    return replace(imported, weights=tuple(map(tuple, weights)))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.sampled_from(sorted(SPACES_TRIED)), st.integers(0, 10_000), st.sampled_from(("makers", "readers")))
def test_channels_that_do_nothing_can_go(space, seed, side):
    rng = random.Random(seed)
    (spec,) = SPACES[space].sample(1, seed, SPACES_TRIED[space])
    graph = lower(spec)
    assume(side == "readers" or space != "random")  # whose operators make something of nothing, such as exp
    assume(not ACROSS & {op.kind for op in graph.ops})
    imported = Imported(graph, tuple(f"layer {i}" for i in range(len(graph.ops))), random_weights(graph, seed))
    groups = channel_groups(graph)
    kept = {
        group.number: sorted(rng.sample(range(group.channels), rng.randint(1, group.channels)))
        for group in groups
        if not group.fixed and rng.random() < 0.7
    }
    empty = emptied(imported, kept, side)
    smaller = removed(empty, kept)
    patch = Patch(widths={groups[n].members[-1]: len(indices) for n, indices in kept.items()})
    assert smaller.graph == patched(graph, patch).graph
    assert smaller.names == imported.names
    batch = np.random.default_rng(seed).standard_normal(graph.inputs[0].shape, dtype=np.float32)
    expected = run(empty, batch)
    assume(np.isfinite(expected).all())  # random operators divide by zero
    np.testing.assert_allclose(run(smaller, batch), expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_every_kind_of_operator_loses_its_share(mixed):
    groups = {g.channels: g.number for g in channel_groups(mixed.graph) if not g.fixed}
    kept = {groups[6]: [0, 2, 5], groups[4]: [1]}
    empty = emptied(mixed, kept)
    smaller = removed(empty, kept)
    shapes = {
        name: [array.shape for array in arrays] for name, arrays in zip(smaller.names, smaller.weights, strict=True)
    }
    assert shapes["conv a"] == [(3, 3, 3, 3), (3,)]
    assert shapes["conv c"] == [(3, 1, 1, 3), (3,)]
    assert shapes["norm"] == [(3,)] * 4
    assert shapes["depthwise"] == [(1, 3, 3, 3), (3,)]
    assert shapes["conv b"] == [(1, 3, 3, 3), (1,)]
    assert shapes["dense"] == [(5, 64), (5,)]  # 16 positions of 3 and 1 channels
    before, after = (imported.weights[imported.names.index("dense")][0] for imported in (mixed, smaller))
    columns = [10 * position + channel for position in range(16) for channel in (0, 2, 5, 7)]
    assert (after == before[:, columns]).all()
    batch = np.random.default_rng(0).standard_normal((2, 4, 4, 3), dtype=np.float32)
    np.testing.assert_allclose(run(smaller, batch), run(empty, batch), rtol=1e-4, atol=1e-5)
    assert np.abs(run(mixed, batch) - run(empty, batch)).max() > 0.1  # the channels did something before


def test_what_cannot_be_removed_is_refused(mixed):
    groups = channel_groups(mixed.graph)
    free = next(g for g in groups if not g.fixed)
    answers = next(g for g in groups if g.fixed and g.channels == 5)
    refusals = {
        len(groups): ({len(groups): [0]}, "no such channel group"),
        free.number: ({free.number: []}, "ascending"),
        answers.number: ({answers.number: [0, 1]}, "returns them"),
    }
    for number, (kept, reason) in refusals.items():
        with pytest.raises(InvalidInput, match=reason) as raised:
            removed(mixed, kept)
        assert raised.value.field == f"kept[{number}]"
    for indices in ([1, 0], [0, 0], [free.channels], [-1, 0]):
        with pytest.raises(InvalidInput, match="ascending"):
            removed(mixed, {free.number: indices})
    with pytest.raises(InvalidInput, match="no weights"):
        removed(replace(mixed, weights=None), {})
    assert removed(mixed, {answers.number: range(5)}).graph == mixed.graph
