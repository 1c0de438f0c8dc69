"""Scoring in bulk: the predicted latency of many networks of a space, in shards that end in Parquet files."""

from leti.service.scoring.engines import ENGINES, Engine
from leti.service.scoring.plan import ScoringPlan, Shard
from leti.service.scoring.run import ScoringReport, score

__all__ = ["ENGINES", "Engine", "ScoringReport", "Shard", "ScoringPlan", "score"]
