"""Store: every table's keeper over one database."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

from leti.core.errors import StorageError
from leti.service.database import Database, Pool, Schema
from leti.service.settings import Settings
from leti.service.store.accuracies import AccuracyStore
from leti.service.store.answers import AnswerStore
from leti.service.store.asked import AskedStore
from leti.service.store.bell import Bell
from leti.service.store.campaigns import CampaignStore
from leti.service.store.datasets import DatasetStore
from leti.service.store.devices import DeviceStore
from leti.service.store.failures import FailureStore
from leti.service.store.holdouts import HoldoutStore
from leti.service.store.jobs import JobStore
from leti.service.store.leasing import Rules
from leti.service.store.lookups import LookupStore
from leti.service.store.measurements import MeasurementStore
from leti.service.store.metrics import MetricStore
from leti.service.store.networks import NetworkStore
from leti.service.store.platforms import PlatformStore
from leti.service.store.predictions import PredictionStore
from leti.service.store.predictors import PredictorStore
from leti.service.store.queue import Queue
from leti.service.store.scores import ScoreStore
from leti.service.store.sessions import SessionStore
from leti.service.store.sweeping import Sweeper
from leti.service.store.tasks import TaskStore
from leti.service.store.tokens import TokenStore
from leti.service.store.truth_columns import TruthColumnStore
from leti.service.store.uploads import UploadStore
from leti.service.store.workers import WorkerStore


@final
class Store:
    """What the service keeps, by kind. Safe to share between threads; every method is one transaction.

    ``clock`` gives the time in seconds since the epoch: leases run out by it.
    """

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self.bell: Final = Bell()
        self.tokens: Final = TokenStore(database, clock)
        self.sessions: Final = SessionStore(database, clock, lasts_s=settings.session_s)
        self.uploads: Final = UploadStore(database, clock)
        self.networks: Final = NetworkStore(database, clock)
        self.accuracies: Final = AccuracyStore(database, clock)
        self.platforms: Final = PlatformStore(database, clock)
        self.campaigns: Final = CampaignStore(database, clock, self.bell)
        rules = Rules(settings.lease_s, settings.max_deaths, settings.gone_after_s, settings.quarantine_after)
        self.queue: Final = Queue(database, clock, rules, self.bell)
        self.jobs: Final = JobStore(database, clock, rules, self.bell)
        self.devices: Final = DeviceStore(database, clock, self.bell, gone_after_s=settings.gone_after_s)
        self.failures: Final = FailureStore(database)
        self.metrics: Final = MetricStore(database, clock)
        self.measurements: Final = MeasurementStore(database)
        self.truths: Final = TruthColumnStore(database)
        self.datasets: Final = DatasetStore(database, clock)
        self.predictors: Final = PredictorStore(database, clock)
        self.holdouts: Final = HoldoutStore(database)
        self.tasks: Final = TaskStore(database, clock, rules, most_waiting=settings.max_waiting_tasks)
        self.workers: Final = WorkerStore(database, clock)
        self.predictions: Final = PredictionStore(database, clock)
        self.scores: Final = ScoreStore(database, clock)
        self.lookups: Final = LookupStore(database)
        self.asked: Final = AskedStore(database, clock, self.bell)
        self.answers: Final = AnswerStore(database, clock)
        self.sweeper: Final = Sweeper(database, clock)

    @classmethod
    def open(cls, settings: Settings, clock: Callable[[], float] = time.time) -> Store:
        """Return the store that ``settings`` name, its schema brought to the newest version; make folders as needed.

        Where the settings leave that to ``leti migrate``, raises :class:`VersionMismatch` for any other schema.
        """
        try:
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{settings.home} cannot be made: {error.strerror}", field="home", remedy="name a folder that can be"
            ) from error
        database = Database.named_by(settings)
        try:
            if settings.migrate_on_start:
                database.upgrade()
            else:
                database.check_schema()
        except StorageError as error:
            error.field = "database_url" if settings.database_url else "home"
            error.remedy = "see to the database that it names, or name another"
            if not settings.database_url:
                error.remedy = f"see to the database in {settings.home}, or name another folder"
            raise
        return cls(database, settings, clock)

    def schema(self) -> Schema:
        """Return which version the schema has, and which this code needs; raise :class:`StorageError`."""
        return self._database.schema()

    def pool(self) -> Pool:
        """Return how busy the connections are."""
        return self._database.pool()

    def close(self) -> None:
        """Write what waits to be written, and close every connection."""
        self.predictions.close()
        self._database.close()
