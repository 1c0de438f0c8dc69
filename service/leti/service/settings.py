"""Settings of one service: handed in, never read at import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from leti.core.errors import InvalidInput

MIB = 1024 * 1024


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """Where a service keeps its things, and its limits.

    ``home`` holds the database, the model files and the predictors. ``database_url`` is SQLAlchemy's; empty means
    SQLite inside ``home``. A lease runs out ``lease_s`` after its last heartbeat; a job that has outlived
    ``max_deaths`` leases is poison. A device is gone that was silent for ``gone_after_s``, and quarantined once
    ``quarantine_after`` failures in a row speak against it: crashes and timeouts of different networks, agents that
    fell silent, faults of its own. Every fit of a training, those of cross-validation too, gets ``min_networks`` at
    least.
    """

    home: Path
    database_url: str = ""
    lease_s: float = 60.0
    max_deaths: int = 3
    gone_after_s: float = 120.0
    quarantine_after: int = 5
    max_body_bytes: int = 32 * MIB
    max_batch: int = 10_000
    max_campaign_networks: int = 5_000
    max_lease_jobs: int = 64
    min_networks: int = 20
    receive_timeout_s: float = 30.0
    keep_alive_s: int = 10

    def __post_init__(self) -> None:
        """Refuse limits that nothing could meet."""
        positive = ("lease_s", "max_deaths", "max_body_bytes", "max_batch", "max_campaign_networks", "max_lease_jobs")
        for name in (*positive, "gone_after_s", "quarantine_after", "receive_timeout_s", "keep_alive_s"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"must be positive, not {getattr(self, name)}", field=name)
        if self.min_networks < 2:
            raise InvalidInput(f"must be 2 or more, not {self.min_networks}", field="min_networks")

    @property
    def database_file(self) -> Path:
        """The embedded database's file."""
        return self.home / "leti.sqlite"

    @property
    def models(self) -> Path:
        """The folder of model files, each named by its SHA-256."""
        return self.home / "models"

    @property
    def predictors(self) -> Path:
        """The folder of saved predictors, each in a folder named by its SHA-256."""
        return self.home / "predictors"
