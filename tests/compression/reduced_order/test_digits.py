"""Digits: a tenth of the multiply-accumulates within a point, where weights' own SVD loses more."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")

from reduced_order import digits, hits, perceptron, reduced, trained, weight_svd


def test_a_tenth_of_the_work_costs_less_than_a_point() -> None:
    torch.set_num_threads(1)
    data = digits(0)
    whole = trained(perceptron(0), data, epochs=20)
    found = reduced(whole, data)
    rival = weight_svd(whole, found.imported.graph.macs)
    assert whole.graph.macs >= 10 * found.imported.graph.macs
    assert rival.graph.macs <= found.imported.graph.macs
    accuracy, kept, rivals = (float(hits(each, data).mean()) for each in (whole, found.imported, rival))
    assert accuracy > 0.96
    assert kept >= accuracy - 0.01
    assert rivals < kept
