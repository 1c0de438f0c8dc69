"""A predictor for a new platform from a handful of measurements there, and what is known of others."""

from leti.predictors.adaptation.predictor import AdaptedPredictor, adapt

__all__ = ["AdaptedPredictor", "adapt"]
