"""Training: a dataset is frozen, predictors are trained on it and judged, and one is chosen to serve."""

from leti.service.training.trainer import COVERAGE, Trainer, sample_of

__all__ = ["COVERAGE", "Trainer", "sample_of"]
