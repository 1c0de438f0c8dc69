"""LETI's client: the only HTTP client of the project, for people, the command line and agents alike."""

from leti.client.backoff import Backoff
from leti.client.latency_client import AsyncLatencyClient, LatencyClient

__all__ = ["AsyncLatencyClient", "Backoff", "LatencyClient"]
