"""Scoring one shard: networks drawn, lowered, predicted, and written as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from leti.core.errors import InvalidInput, LetiError
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.core.prediction import Predictor
from leti.generator.lowering import lower
from leti.generator.precision import quantize
from leti.generator.spaces import get_space
from leti.service.scoring.plan import ScoringPlan, Shard

with needs("arrow"):
    import pyarrow as pa

AT_ONCE: Final = 1_024
"""Networks that are lowered and predicted at once: what a model takes in one call."""

SCHEMA: Final = pa.schema(
    [
        ("number", pa.int64()),
        ("encoding", pa.list_(pa.int32())),
        ("fingerprint", pa.string()),
        ("latency_ms", pa.float64()),
        ("low_ms", pa.float64()),
        ("high_ms", pa.float64()),
        ("distance", pa.float64()),
        ("unknown", pa.list_(pa.string())),
        ("macs", pa.int64()),
        ("params", pa.int64()),
        ("error", pa.string()),
    ]
)
"""The columns of a file. ``number`` counts the networks of the plan, ``error`` says why there is no latency."""


def score_shard(plan: ScoringPlan, shard: Shard, predictor: Predictor) -> Any:
    """Return the table (:data:`SCHEMA`) of a shard, in the order of its networks."""
    space = get_space(plan.space)
    specs = plan.draw(shard)
    batches = []
    for start in range(0, len(specs), AT_ONCE):
        part = specs[start : start + AT_ONCE]
        graphs = [lower(spec, plan.zero) for spec in part]
        if plan.precision != "float32":
            graphs = [quantize(graph, plan.precision) for graph in graphs]
        first = shard.first + start
        columns = {
            "number": list(range(first, first + len(part))),
            "encoding": [space.encode(spec) for spec in part],
            "fingerprint": [graph.fingerprint() for graph in graphs],
            **_predicted(predictor, graphs, plan.coverage),
            "macs": [graph.macs for graph in graphs],
            "params": [graph.params for graph in graphs],
        }
        batches.append(pa.record_batch([columns[name] for name in SCHEMA.names], schema=SCHEMA))
    return pa.Table.from_batches(batches, schema=SCHEMA)


def _predicted(predictor: Predictor, graphs: Sequence[Graph], coverage: float) -> dict[str, list[Any]]:
    """Return what a predictor says of graphs, as columns; where it refuses them, it is asked for each by itself."""
    try:
        answers = predictor.predict(graphs, coverage=coverage)
    except InvalidInput:
        raise
    except LetiError as error:
        if len(graphs) == 1:
            none: dict[str, list[Any]] = {name: [None] for name in ("latency_ms", "low_ms", "high_ms", "distance")}
            return {**none, "unknown": [[]], "error": [error.message]}
        alone = [_predicted(predictor, [graph], coverage) for graph in graphs]
        return {name: [one[name][0] for one in alone] for name in alone[0]}
    count = len(answers)
    return {
        "latency_ms": answers.latency_ms.tolist(),
        "low_ms": answers.low_ms.tolist(),
        "high_ms": answers.high_ms.tolist(),
        "distance": [None] * count if answers.distance is None else answers.distance.tolist(),
        "unknown": list(answers.unknown) if answers.unknown else [()] * count,
        "error": [None] * count,
    }
