"""What predictors made of networks held out, read as columns: all in one order, whatever the database."""

from __future__ import annotations

from typing import Any

DATABASES = ("sqlite", "postgresql")


def test_columns_are_those_of_the_wire_and_shared_ones_have_one_order(measured: Any) -> None:
    report = measured.train("flops", "linear")
    points = {one.id: measured.get(f"/predictors/{one.id}/holdout").json() for one in report.predictors}
    shared = measured.store.holdouts.shared(report.dataset_id, list(points))
    classes = {item.fingerprint: item.group for item in measured.store.datasets.load(report.dataset_id).test}
    assert list(shared.group) == [classes[fingerprint] for fingerprint in sorted(classes)]
    for key, found in points.items():
        columns = measured.store.holdouts.columns(key)
        for name in ("fingerprint", "space", "measured_ms", "latency_ms", "low_ms", "high_ms"):
            assert list(getattr(columns, name)) == [point[name] for point in found]
        by_fingerprint = sorted(found, key=lambda point: point["fingerprint"])
        assert list(shared.measured_ms) == [point["measured_ms"] for point in by_fingerprint]
        assert list(shared.latency_ms[key]) == [point["latency_ms"] for point in by_fingerprint]
    assert measured.store.holdouts.columns(999).fingerprint == ()
