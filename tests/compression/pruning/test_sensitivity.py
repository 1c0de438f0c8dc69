"""Sensitivity: one change at a time, counted once, kept over an interruption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.pruning.sensitivity import sensitivity
from leti.compression.scores import content_hash
from leti.compression.training.executing import outputs
from leti.core.errors import InvalidInput

LEVELS = (0.25, 0.5, 0.75)


@pytest.fixture
def evaluate(mixed):
    """Minus the mean squared error against the network as it is, and how often it was asked."""
    batch = np.random.default_rng(2).standard_normal((2, 4, 4, 3), dtype=np.float32)
    expected = outputs(mixed, [batch])[0]

    def score(imported):
        score.graphs.append(imported.graph)
        return -float(((outputs(imported, [batch])[0] - expected) ** 2).mean())

    score.graphs = []
    return score


def test_one_layer_at_a_time(mixed, evaluate):
    found = {kind: sensitivity(mixed, evaluate, kind, levels=LEVELS) for kind in ("elements", "filters", "channels")}
    layers = tuple(name for name, op in zip(mixed.names, mixed.graph.ops, strict=True) if op.macs)
    assert found["elements"].names == found["filters"].names == layers
    assert sorted(found["channels"].names) == ["conv a + conv c", "conv b"]
    for kind, table in found.items():
        assert table.unchanged == 0
        assert all(score < 0 for scores in table.scores for score in scores), kind
        assert all(scores[0] > scores[-1] for scores in table.scores), kind
        assert table.table().count("\n") == len(table.places) + 1
    graphs = evaluate.graphs
    assert sum(graph != mixed.graph for graph in graphs) == 2 * len(LEVELS)  # only channels change the graph
    # By hand: half of conv b's filters, with their biases.
    weights = [[array.copy() for array in arrays] for arrays in mixed.weights]
    place = mixed.names.index("conv b")
    gone = np.argsort(np.abs(weights[place][0]).sum(axis=(1, 2, 3)))[:2]
    for array in weights[place]:
        array[gone] = 0
    by_hand = evaluate(replace(mixed, weights=tuple(map(tuple, weights))))
    assert found["filters"].scores[layers.index("conv b")][1] == by_hand


def test_an_interrupted_analysis_goes_on(mixed, evaluate, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupts(imported):
        if len(evaluate.graphs) == 5:
            raise Interrupted
        return evaluate(imported)

    asked = {"levels": LEVELS, "cache": tmp_path / "scores", "evaluation": "mse on two random images"}
    with pytest.raises(Interrupted):
        sensitivity(mixed, interrupts, "filters", **asked)
    told = []
    found = sensitivity(mixed, evaluate, "filters", **asked, progress=lambda *counts: told.append(counts))
    total = 1 + len(found.places) * len(LEVELS)
    assert len(evaluate.graphs) == total
    assert told == [(i + 1, total) for i in range(total)]
    assert sensitivity(mixed, evaluate, "filters", **asked) == found
    assert len(evaluate.graphs) == total  # nothing was computed again
    assert sensitivity(mixed, evaluate, "filters", levels=LEVELS) == found

    (tmp_path / "scores" / next((tmp_path / "scores").iterdir()).name).write_text("{")
    evaluate.graphs.clear()
    assert sensitivity(mixed, evaluate, "filters", **asked) == found
    assert len(evaluate.graphs) == 1  # what is damaged is computed again
    weights = [list(arrays) for arrays in mixed.weights]
    weights[0][0] = weights[0][0] * 2
    other = replace(mixed, weights=tuple(map(tuple, weights)))
    assert content_hash(other) != content_hash(mixed) == content_hash(replace(mixed))
    sensitivity(other, evaluate, "filters", **asked)
    assert len(evaluate.graphs) == 1 + total  # another network's scores are its own


def test_what_cannot_be_analysed_is_refused(mixed, evaluate, tmp_path):
    for more, field in (
        ({"places": [mixed.names.index("relu")]}, "places"),
        ({"levels": (0.5, 1.0)}, "levels"),
        ({"cache": tmp_path}, "evaluation"),
    ):
        with pytest.raises(InvalidInput) as raised:
            sensitivity(mixed, evaluate, **more)
        assert raised.value.field == field
    assert not evaluate.graphs
