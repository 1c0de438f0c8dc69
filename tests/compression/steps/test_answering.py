"""Verdicts: only what was measured is met, and it is said by how much a budget is not."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.steps.answering import Judged


@pytest.mark.parametrize(
    ("judged", "verdict", "said"),
    [
        (Judged(4.5, 5.0, 0.001, 0.005), "met", "90.0% of the budget of 5 ms. It loses 0.10 points"),
        (Judged(4.5, 5.0, -0.001, 0.005), "met", "It gains 0.10 points"),
        (Judged(4.5, 5.0, None, 0.005), "met", "Accuracy is not known"),
        (Judged(4.5, 5.0, 0.001, 0.005, by_precision=True), "met by precision", "90.0%"),
        (Judged(5.1, 5.0, 0.0, 0.005), "missed", "0.1 ms (2.0%) more than the budget of 5 ms"),
        (Judged(5.1, 5.0, 0.0, 0.005, by_precision=True), "missed", "2.0%"),
        (Judged(4.5, 5.0, 0.0051, 0.005), "too much is lost", "loses 0.51 points of accuracy, where 0.5 may be lost"),
        (Judged(5.1, 5.0, 0.5, 0.005), "missed", "more than the budget"),
        (Judged(None, 5.0, 0.0, 0.005), "not measured", "predicted to keep"),
        (Judged(6.0, 5.0, 0.0, 0.005, is_feasible=False, reachable_ms=6.0), "infeasible", "6 ms, 1.20 times"),
    ],
)
def test_a_verdict_follows_from_what_was_measured_and_says_by_how_much(judged: Judged, verdict: str, said: str):
    assert judged.verdict() == verdict
    assert said in judged.summary()
