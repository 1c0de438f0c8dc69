from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest

from leti.core.access import Role, TokenRequest
from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.farm import (
    CampaignRequest,
    DeviceInfo,
    Failure,
    FailureKind,
    Job,
    Lease,
    LeaseRequest,
    Receipt,
    Result,
    Sample,
)
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.spec import NetworkConfig
from leti.core.tasks import Task
from leti.core.training import TrainingReport, TrainingRequest
from leti.core.wire import PROTOCOL_VERSION

MISSING = ""
"""Why nothing here can be tested: what is skipped says so. (A conftest that skips itself would end the run.)"""

try:
    for module, extra in (("fastapi", "service"), ("ai_edge_litert", "export")):
        pytest.importorskip(module, reason=f"needs the extra {extra}")
except pytest.skip.Exception as skipped:
    MISSING = str(skipped)
else:
    from anyio.from_thread import BlockingPortal, start_blocking_portal
    from fastapi.testclient import TestClient
    from sqlalchemy import text

    from leti.service.app import create_app
    from leti.service.database import Database
    from leti.service.settings import Settings
    from leti.service.store import Store
    from leti.service.tasks.worker import run_tasks

ARCHITECTURE = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"
PLATFORM = Platform(Device("box", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
SHA256 = "ab" * 32
SMALL = NetworkConfig(modules_per_stack=1)
"""A fifth of the operators: model files are written in a fifth of the time."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """The real service over a real database, and an agent that reports latencies made from MACs."""

    architecture = ARCHITECTURE
    small = SMALL

    portal: BlockingPortal
    """The event loop of all houses, in a thread of its own: one for each request takes longer than to answer it."""

    def __init__(self, settings: Settings, platform: Platform = PLATFORM) -> None:
        self.platform = platform
        self.platform_id = platform.id
        self.settings = settings
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.settings, self.clock)
        self.app = create_app(self.store, self.settings)
        self.client = TestClient(self.app, "http://127.0.0.1", raise_server_exceptions=False)
        self.client.portal = self.portal

    def close(self) -> None:
        self.client.close()
        self.store.close()

    def post(self, path: str, body: object = None, **headers: str) -> Any:
        return self.client.post(f"/v1{path}", json=None if body is None else to_json(body), headers=headers)

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(f"/v1{path}", params=params)

    def bearer(self, role: Role, name: str = "", **fields: Any) -> dict[str, str]:
        """Return the header of a new token: what a house with ``auth`` asks for."""
        made = self.store.tokens.create(TokenRequest(name or f"the {role}", role, **fields))
        return {"authorization": f"Bearer {made.token}"}

    def add_platform(self) -> dict[str, Any]:
        answer = self.post("/platforms", self.platform)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def add_campaign(self, name: str = "first", count: int = 6, **fields: Any) -> dict[str, Any]:
        self.add_platform()
        samples = (Sample("nasbench201", count, fields.pop("seed", 0), SMALL),) if count else ()
        request = CampaignRequest(name, self.platform_id, samples, **{"repeats": 1, **fields})
        answer = self.post("/campaigns", request)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def rows(self, statement: str) -> list[Any]:
        """Read what no route shows."""
        with self.store._database.reading() as connection:
            return list(connection.execute(text(statement)).all())

    def lease(self, max_jobs: int = 8, agent: str = "agent") -> Lease | None:
        answer = self.post("/leases", LeaseRequest(agent, self.platform_id, max_jobs))
        assert answer.status_code in (200, 204), answer.text
        return from_json(Lease, answer.json()) if answer.status_code == 200 else None

    def ratio(self, fingerprint: str, repeat: int = 0) -> float:
        network = self.store.networks.get(fingerprint)
        noise = random.Random(f"{fingerprint}{repeat}").uniform(0.98, 1.02)
        return (0.1 + network.macs / 8e6) * noise

    def result(self, lease: Lease, job: Job, **fields: Any) -> Result:
        ratio = fields.pop("ratio", None) or self.ratio(job.fingerprint, job.repeat)
        passes = tuple(Pass((1.25 * ratio, 1.25 * ratio), (1.25, 1.25)) for _ in range(3))
        values = {
            "fingerprint": job.fingerprint,
            "platform_id": lease.platform_id,
            "reference": lease.reference,
            "passes": passes,
            "recipe": Recipe("0.1.0", "2.3.0", SHA256),
            **fields,
        }
        return Result(lease.id, lease.token, job.id, job.repeat, Measurement(**values))

    def report(self, lease: Lease, job: Job, **fields: Any) -> Receipt:
        answer = self.post("/results", self.result(lease, job, **fields))
        assert answer.status_code == 200, answer.text
        return from_json(Receipt, answer.json())

    def failed(self, lease: Lease, job: Job, kind: FailureKind = "other", message: str = "it broke") -> Result:
        return Result(lease.id, lease.token, job.id, job.repeat, failure=Failure(kind, message))

    def fail(self, lease: Lease, job: Job, kind: FailureKind = "other", message: str = "it broke") -> Receipt:
        answer = self.post("/results", self.failed(lease, job, kind, message))
        assert answer.status_code == 200, answer.text
        return from_json(Receipt, answer.json())

    def device(self) -> DeviceInfo:
        (found,) = self.store.devices.list()
        return found

    def run_tasks(self) -> int:
        """Do what workers would do, here and now; return how many tasks that were."""
        return run_tasks(self.store, self.settings)

    def task(self, path: str, body: object) -> Task:
        """Ask for a task, have it done, and return how it ended."""
        answer = self.post(path, body)
        assert answer.status_code == 202, answer.text
        assert self.run_tasks() == 1
        found = self.get(f"/tasks/{answer.json()['id']}")
        assert answer.headers["location"] == f"/v1/tasks/{answer.json()['id']}"
        return from_json(Task, found.json())

    def train(self, *kinds: str, **fields: Any) -> TrainingReport:
        """Have predictors trained."""
        task = self.task("/predictors", TrainingRequest(self.platform_id, kinds, **fields))
        assert task.state == "done", task.problem
        return from_json(TrainingReport, task.report)

    def measure_all(self) -> int:
        count = 0
        while (lease := self.lease(64)) is not None:
            for job in lease.jobs:
                assert self.report(lease, job).status == "stored"
                count += 1
        return count


class Unready(pytest.Module):
    """A module that cannot be imported without what is missing."""

    def collect(self) -> NoReturn:
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Unready.from_parent(parent, path=module_path) if MISSING else None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sqlite: any database would do for this test: it is run on SQLite alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of modules that say so (``DATABASES``) on each of several databases, the others on SQLite."""
    databases = getattr(metafunc.module, "DATABASES", None)
    if metafunc.definition.get_closest_marker("sqlite"):
        databases = None
    if databases and "database_kind" in metafunc.fixturenames:
        metafunc.parametrize("database_kind", databases, indirect=True)


@pytest.fixture(scope="session", autouse=True)
def portal() -> Iterator[None]:
    with start_blocking_portal() as House.portal:
        yield


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture(scope="session")
def empty_of(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Settings]:
    """Return an empty database of the newest schema and of a kind, to be copied: migrations have tests of their own."""

    @cache
    def make(kind: str) -> Settings:
        url = "" if kind == "sqlite" else request.getfixturevalue("postgresql_databases").new()
        made = Settings(tmp_path_factory.mktemp("empty"), auth=False, database_url=url)
        Store.open(made).close()
        return made

    return make


@pytest.fixture
def settings(
    tmp_path: Path, database_kind: str, empty_of: Callable[[str], Settings], request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Settings with an empty database: a file, or one of a PostgreSQL."""
    home, empty = tmp_path / "a home", empty_of(database_kind)
    shutil.copytree(empty.home, home)
    if not empty.database_url:
        yield replace(empty, home=home)
        return
    databases = request.getfixturevalue("postgresql_databases")
    url = databases.new(like=empty.database_url)
    yield replace(empty, home=home, database_url=url)
    databases.drop(url)


@pytest.fixture
def blank(tmp_path: Path, database_kind: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings with a database that has no schema yet."""
    if database_kind == "sqlite":
        yield Settings(tmp_path, auth=False)
        return
    databases = request.getfixturevalue("postgresql_databases")
    url = databases.new()
    yield Settings(tmp_path, auth=False, database_url=url)
    databases.drop(url)


@pytest.fixture
def database(blank: Settings) -> Iterator[Database]:
    """A database that has no schema yet."""
    made = Database.named_by(blank)
    yield made
    made.close()


@pytest.fixture
def house(settings: Settings) -> Iterator[House]:
    made = House(settings)
    yield made
    made.close()


@pytest.fixture
def guarded_by(settings: Settings) -> Iterator[Callable[..., House]]:
    """Open a house that asks for tokens (:meth:`House.bearer` makes them), with other limits than usual."""
    made: list[House] = []

    def open_house(**limits: Any) -> House:
        made.append(House(replace(settings, auth=True, **limits)))
        return made[-1]

    yield open_house
    for one in made:
        one.close()


@pytest.fixture
def guarded(guarded_by: Callable[..., House]) -> House:
    """A house that asks for tokens."""
    return guarded_by()


@pytest.fixture
def house_on(settings: Settings) -> Iterator[Callable[[Platform], House]]:
    """Open the house with an agent of another platform."""
    made: list[House] = []

    def open_house(platform: Platform) -> House:
        made.append(House(settings, platform))
        return made[-1]

    yield open_house
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with a platform, for tests that leave nothing behind."""
    made = House(Settings(tmp_path_factory.mktemp("shared"), auth=False))  # SQLite: beside `house`, which has its own
    made.add_platform()
    yield made
    made.close()


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[House, Callable[[House], object]], House]:
    """Bring an empty house to where a function brings it: once on each kind of database, and by copies from then on."""
    done: dict[tuple[Callable[[House], object], bool], Settings] = {}

    def prepare(house: House, do: Callable[[House], object]) -> House:
        house.close()
        url = house.settings.database_url
        databases = request.getfixturevalue("postgresql_databases") if url else None
        if (do, bool(url)) not in done:
            home = tmp_path_factory.mktemp("prepared")
            first = House(Settings(home, auth=False, database_url=url and databases.new(like=url)), house.platform)
            first.clock.now = house.clock.now
            do(first)
            first.close()
            done[do, bool(url)] = first.settings
        there = done[do, bool(url)]
        shutil.copytree(there.home, house.settings.home, dirs_exist_ok=True)
        if url:
            databases.replace(url, like=there.database_url)
        house.open()
        return house

    return prepare


def _measure_forty(house: House) -> None:
    house.add_campaign(count=40)
    assert house.measure_all() == 40


@pytest.fixture
def measured(house: House, prepared: Callable[[House, Callable[[House], object]], House]) -> House:
    """A house that has measured as many networks as it takes to train and to judge."""
    return prepared(house, _measure_forty)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], House]:
    """Open a house with 60 measured networks of NAS-Bench-201 and three predictors, each time one of its own."""
    first = House(Settings(home=tmp_path_factory.mktemp("learnt"), auth=False))
    first.add_campaign(count=60)
    first.measure_all()
    first.train("linear", "lookup_table", "xgboost")
    first.close()

    def another() -> House:
        home = tmp_path_factory.mktemp("learned")
        shutil.copytree(first.settings.home, home, dirs_exist_ok=True)
        made = House(Settings(home=home, auth=False))
        made.clock.now = first.clock.now
        return made

    return another


@pytest.fixture(scope="session")
def learned(learnt: Callable[[], House]) -> Iterator[House]:
    """A house that has learnt, for tests that measure nothing more and add nothing that others would see."""
    made = learnt()
    yield made
    made.close()


@pytest.fixture(scope="module")
def learned_apart(learnt: Callable[[], House]) -> Iterator[House]:
    """A house that has learnt, for the tests of one module alone."""
    made = learnt()
    yield made
    made.close()


@pytest.fixture
def few_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no predictors but the quickest and those that are made of others, for who trains all and looks at some."""
    from leti.predictors import registry

    kept = ("flops", "linear", "lookup_table", "stacked", "adapted")
    monkeypatch.setattr(registry, "PREDICTORS", {kind: registry.PREDICTORS[kind] for kind in kept})


@pytest.fixture
def problem_of() -> Any:
    """Check that an answer is a problem of this status, and return it."""

    def check(answer: Any, status: int, kind: str | None = None) -> dict[str, Any]:
        assert answer.status_code == status, (answer.status_code, answer.text[:500])
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["leti-protocol"] == str(PROTOCOL_VERSION)
        assert answer.headers["x-request-id"]
        said: dict[str, Any] = answer.json()
        assert said["status"] == status
        assert said["detail"]
        assert "Traceback" not in answer.text
        if kind is not None:
            assert said["type"] == f"urn:leti:problem:{kind}"
        return said

    return check
