"""The tables. Only the store reads and writes them; only migrations create them.

Points in time are seconds since the epoch (UTC), latencies milliseconds.
"""

from leti.service.tables.access import sessions, tokens
from leti.service.tables.columns import metadata
from leti.service.tables.farm import (
    campaigns,
    devices,
    failures,
    jobs,
    leases,
    measurements,
    platforms,
    reference_latencies,
)
from leti.service.tables.idempotency import kept_answers
from leti.service.tables.learning import dataset_items, datasets, holdout_points, predictions, predictors
from leti.service.tables.networks import accuracies, model_files, networks
from leti.service.tables.tasks import promotions, task_logs, tasks, workers
from leti.service.tables.totals import campaign_totals, platform_totals, truths
from leti.service.tables.uploads import uploads

__all__ = [
    "metadata",
    "tokens",
    "sessions",
    "networks",
    "model_files",
    "accuracies",
    "uploads",
    "devices",
    "platforms",
    "reference_latencies",
    "campaigns",
    "leases",
    "jobs",
    "failures",
    "measurements",
    "datasets",
    "dataset_items",
    "predictors",
    "holdout_points",
    "predictions",
    "tasks",
    "task_logs",
    "workers",
    "promotions",
    "truths",
    "platform_totals",
    "campaign_totals",
    "kept_answers",
]
