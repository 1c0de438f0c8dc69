"""Distiller's tables, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leti.compression.pruning.summaries import COMPUTE_COLUMNS, SPARSITY_COLUMNS, compute, sparsity, table
from leti.core.errors import InvalidInput
from leti.core.prediction import Breakdown, Share


def test_sparsity_by_hand(mixed):
    weights = [[array.copy() for array in arrays] for arrays in mixed.weights]
    place = mixed.names.index
    filters = weights[place("conv a")][0]  # (6, 3, 3, 3): 18 slices of 9
    filters[:] = 0.5
    filters[4] = 0  # a filter, which is 3 slices
    filters[..., 2] = 0  # an input channel, 6 slices, one of them counted already
    filters[0, 0, 0, 0] = 0  # one weight
    dense = weights[place("dense")][0]  # (5, 160)
    dense[:] = -1
    dense[3] = 0
    dense[:, :40] = 0
    weights[place("depthwise")][0][..., 1:3] = 0  # two of six
    rows = sparsity(replace(mixed, weights=tuple(map(tuple, weights))))
    by_name = {row.name: row for row in rows}
    assert list(by_name) == [
        *(n for n, op in zip(mixed.names, mixed.graph.ops, strict=True) if op.macs),
        "Total sparsity:",
    ]

    row = by_name["conv a"]
    left = 5 * 18 - 1
    assert (row.shape, row.nonzero_dense, row.nonzero_sparse) == ((6, 3, 3, 3), 162, left)
    assert (row.columns_pct, row.rows_pct) == (0, 0)
    expected = (100 / 3, 100 * 8 / 18, 100 / 6, 100 * (1 - left / 162))
    assert (row.channels_pct, row.kernels_pct, row.filters_pct, row.elements_pct) == pytest.approx(expected)
    mean = 0.5 * left / 162
    assert (row.mean, row.abs_mean, row.std) == pytest.approx(
        (mean, mean, (0.25 * left / 162 - mean**2) ** 0.5), rel=1e-5
    )

    row = by_name["dense"]
    assert (row.nonzero_sparse, row.columns_pct, row.rows_pct) == (4 * 120, pytest.approx(20), pytest.approx(25))
    assert (row.mean, row.abs_mean) == pytest.approx((-0.6, 0.6), rel=1e-5)
    assert by_name["depthwise"].filters_pct == pytest.approx(100 / 3)

    total = rows[-1]
    assert total.nonzero_dense == 162 + 18 + 108 + 54 + 800
    assert total.nonzero_sparse == left + 18 + 108 + 36 + 480
    assert total.elements_pct == pytest.approx(100 * (1 - total.nonzero_sparse / total.nonzero_dense))
    with pytest.raises(InvalidInput, match="no weights"):
        sparsity(replace(mixed, weights=None))


def test_compute_by_hand(mixed):
    place = mixed.names.index
    first, relu, dense = place("conv a"), place("relu"), place("dense")
    shares = (Share("conv", 0.25, (first, relu)), Share("fc", 0.5, (dense,)), Share("rest", 1.0))
    rows = compute(mixed.graph, mixed.names, latencies=Breakdown(1.75, shares))
    row = rows[0]
    assert (row.name, row.kind, row.attributes) == ("conv a", "conv2d", "k=3x3, s=1x1")
    assert (row.input_map, row.input_volume, row.output_map, row.output_volume) == ((4, 4, 3), 48, (4, 4, 6), 96)
    assert (row.weights_volume, row.macs) == (162, 4 * 4 * 162)  # one sample's: positions times weights
    assert {row.name: row.predicted_ms for row in rows if row.predicted_ms is not None} == {
        "conv a": 0.25,
        "dense": 0.5,
        "Total:": 1.75,
    }
    assert rows[-1].macs == 16 * (162 + 18 + 54 + 108) + 800 == mixed.graph.macs // 2
    asked = compute(mixed.graph, latencies=lambda graph, i: graph.ops[i].macs / 1e3 if i != dense else None)
    assert asked[-1].predicted_ms == pytest.approx(2 * (rows[-1].macs - 800) / 1e3)
    assert {row.predicted_ms for row in compute(mixed.graph)} == {None}


def test_tables_have_distillers_headings(mixed):
    for rows, columns in ((sparsity(mixed), SPARSITY_COLUMNS), (compute(mixed.graph, mixed.names), COMPUTE_COLUMNS)):
        heading, *lines = table(rows).splitlines()
        assert [part for part in heading.split("  ") if part.strip()] != []
        assert [heading.index(name) for name in columns] == sorted(heading.index(name) for name in columns)
        assert len(lines) == len(rows)
    assert np.isfinite([row.std for row in sparsity(mixed)]).all()
