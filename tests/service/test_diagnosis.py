"""The doctor: an installation in order, and each way to break one, with what it says to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from leti.core.access import TokenRequest
from leti.core.errors import Unavailable
from leti.core.wire import PROTOCOL_VERSION, Health
from leti.service import diagnosis
from leti.service.configuration import configure
from leti.service.database import Database
from leti.service.diagnosis import Finding, diagnose
from leti.service.settings import Settings

Diagnose = Callable[..., Mapping[str, list[Finding]]]


@pytest.fixture(scope="module")
def trained(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with measurements, an active predictor and an admin's token."""
    house = type(shared)(Settings(tmp_path_factory.mktemp("trained"), auth=False))
    house.clock.now = time.time() + 3600  # the doctor has its own clock: nothing is to be old, whatever the day
    house.add_campaign(count=34)
    house.measure_all()
    house.train("flops")
    house.add_campaign("more", count=3, seed=7)
    for (fingerprint,) in house.rows("SELECT fingerprint FROM networks LIMIT 4"):
        assert house.get(f"/networks/{fingerprint}/model").status_code == 200
    house.store.tokens.create(TokenRequest("the admin", "admin"))
    house.store.workers.seen("a worker", diagnosis.metadata.version("leti"))
    house.close()
    made: Path = house.settings.home
    return made


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def examine() -> Diagnose:
    def run(home: Path, health: Any = None, **given: Any) -> Mapping[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for one in diagnose(lambda: configure(None, {}, home=home, **given), health):
            assert one.state == "ok" or one.remedy, f"{one} does not say what to do"
            found.setdefault(one.check, []).append(one)
        return found

    return run


@pytest.fixture
def change(home: Path) -> Iterator[Callable[..., None]]:
    """Change the database behind the service's back."""

    def run(*statements: str) -> None:
        with sqlite3.connect(home / "leti.sqlite") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    return run


def test_an_installation_in_order(home: Path, examine: Diagnose) -> None:
    health = Health("ok", diagnosis.metadata.version("leti"), PROTOCOL_VERSION)
    found = examine(home, lambda: health)
    assert {one.state for findings in found.values() for one in findings} == {"ok"}
    assert list(found) == [
        "settings",
        "home folder",
        "artifacts",
        "database",
        "durability",
        "schema",
        "predictors",
        "model files",
        "tokens",
        "devices",
        "queue",
        "workers",
        "tasks",
        "service",
    ]
    assert found["queue"][0].found == "3 jobs wait, 0 are lent"
    assert found["predictors"][0].found == "1 active, each loaded from its files"


def test_nothing_is_made_where_nothing_is(tmp_path: Path, examine: Diagnose) -> None:
    found = examine(tmp_path / "nowhere")
    assert [(name, one[0].state) for name, one in found.items()] == [
        ("settings", "ok"),
        ("home folder", "fail"),
        ("database", "fail"),
    ]
    assert "leti migrate" in found["database"][0].remedy
    assert not list(tmp_path.iterdir())


def only(found: Mapping[str, list[Finding]], check: str) -> Finding:
    """Return the one finding that is not in order, which is of this check."""
    (bad,) = [one for findings in found.values() for one in findings if one.state != "ok"]
    assert bad.check == check
    return bad


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"lease_s": "soon"}, "lease_s: 'soon' is not a number (from the command line)"),
        ({"rate_limit": "5/fortnight"}, "rate_limit: '5/fortnight' is no rate"),
        ({"trusted_proxies": ["*"]}, "trusted_proxies: '*' does not appear to be"),
    ],
)
def test_a_wrong_setting(home: Path, examine: Diagnose, setting: dict[str, Any], said: str) -> None:
    bad = only(examine(home, **setting), "settings")
    assert bad.state == "fail"
    assert said in bad.found


def test_a_lost_predictor(home: Path, examine: Diagnose) -> None:
    (folder,) = (home / "predictors").iterdir()
    next(path for path in folder.iterdir() if path.name != "manifest.json").unlink()
    bad = only(examine(home), "predictors")
    assert bad.state == "fail"
    assert bad.found.startswith("flops 1 of ")
    shutil.rmtree(home / "predictors")
    assert only(examine(home), "predictors").state == "fail"


def test_lost_model_files(home: Path, examine: Diagnose) -> None:
    for path in list((home / "models").iterdir())[:2]:
        path.unlink()
    bad = only(examine(home), "model files")
    assert (bad.state, bad.found.partition(" are ")[0].partition(" of ")[0]) == ("warn", "2")


def test_an_older_and_a_newer_schema(home: Path, examine: Diagnose, change: Callable[..., None]) -> None:
    change("UPDATE alembic_version SET version_num = '0004'")
    bad = only(examine(home), "schema")
    assert "leti migrate" in bad.remedy
    change("UPDATE alembic_version SET version_num = '9999'")
    assert "the release that wrote it" in only(examine(home), "schema").remedy


def test_a_damaged_database(home: Path, examine: Diagnose) -> None:
    with (home / "leti.sqlite").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    found = examine(home)
    assert "fail" in {one.state for findings in found.values() for one in findings}
    assert "predictors" not in found


def test_a_pause_is_no_difference_of_clocks(home: Path, examine: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    read, now = Database.facts, time.time

    def paused(database: Database) -> Any:
        found = read(database)
        monkeypatch.setattr(time, "time", lambda: now() + 60)
        return found

    monkeypatch.setattr(Database, "facts", paused)
    assert {one.state for findings in examine(home).values() for one in findings} == {"ok"}


def test_a_file_that_is_no_database(home: Path, examine: Diagnose) -> None:
    (home / "leti.sqlite").write_bytes(b"no database any more" * 1000)
    bad = only(examine(home), "database")
    assert bad.state == "fail"
    assert str(home / "leti.sqlite") in bad.remedy
    assert "password" not in bad.remedy


def test_an_unreachable_database_and_nothing_of_its_password(home: Path, examine: Diagnose) -> None:
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    found = examine(home, database_url="postgresql://leti:horse@127.0.0.1:1/leti?connect_timeout=2")
    assert only(found, "database").state == "fail"
    assert "horse" not in repr(found)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(home: Path, examine: Diagnose) -> None:
    home.chmod(0o500)
    try:
        assert examine(home)["home folder"][0].state == "fail"
    finally:
        home.chmod(0o700)


def test_artifacts_that_cannot_be_written(home: Path, examine: Diagnose) -> None:
    shutil.rmtree(home / ".parts", ignore_errors=True)
    (home / ".parts").write_text("a file where a folder is to be")
    assert only(examine(home), "artifacts").state == "fail"


def test_a_disk_that_is_almost_full(home: Path, examine: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "LITTLE_SPACE", {"fail": 0, "warn": 2**60})
    assert only(examine(home), "home folder").state == "warn"


def test_no_admin_and_tokens_that_nobody_uses(home: Path, examine: Diagnose, change: Callable[..., None]) -> None:
    change("UPDATE tokens SET created_at = 1")
    assert "never used, such as 'the admin'" in only(examine(home), "tokens").found
    change("UPDATE tokens SET expires_at = 2")
    bad = only(examine(home), "tokens")
    assert (bad.state, "--role admin" in bad.remedy) == ("fail", True)
    assert only(examine(home, auth=False), "tokens").state == "warn"


def test_devices_that_are_gone_or_quarantined(home: Path, examine: Diagnose, change: Callable[..., None]) -> None:
    change("UPDATE devices SET last_heartbeat = 1, created_at = 1")
    assert only(examine(home), "devices").state == "warn"
    change(
        "UPDATE devices SET quarantined_at = 2, quarantined_by = 'a user', quarantine_reason = 'it smokes'",
    )
    bad = only(examine(home), "devices")
    assert (bad.state, "it smokes" in bad.found, "leti devices release box" in bad.remedy) == ("fail", True, True)


def test_leases_that_ran_out_and_jobs_that_kill(home: Path, examine: Diagnose, change: Callable[..., None]) -> None:
    change(
        "UPDATE leases SET state = 'active', expires_at = 5, created_at = 1 WHERE id = 1",
        "UPDATE jobs SET state = 'poison' WHERE state = 'queued'",
    )
    overdue, poison = examine(home)["queue"]
    assert "ran out" in overdue.found
    assert "3 jobs killed" in poison.found


def test_workers_that_are_not_there_or_of_another_release(home: Path, examine: Diagnose, change: Any) -> None:
    change("UPDATE workers SET version = '0.0.1'")
    assert "a worker is LETI 0.0.1" in only(examine(home), "workers").found
    change("UPDATE workers SET seen_at = 1")
    assert "a worker was last heard of" in only(examine(home), "workers").found
    change("DELETE FROM workers")
    assert only(examine(home), "workers").found == "none is there"


def test_tasks_that_failed_or_wait_for_a_worker(home: Path, examine: Diagnose, change: Callable[..., None]) -> None:
    change("UPDATE tasks SET state = 'queued', worker = NULL, created_at = 1, ended_at = NULL")
    assert "leti worker" in only(examine(home), "tasks").remedy
    change("UPDATE tasks SET state = 'failed', ended_at = 4e9, report = NULL")
    assert "1 failed in 24 h, last train" in only(examine(home), "tasks").found


def test_a_service_of_another_release_and_none(home: Path, examine: Diagnose) -> None:
    bad = only(examine(home, lambda: Health("ok", "0.0.1", 1)), "service")
    assert "LETI 0.0.1 (protocol 1)" in bad.found

    def refused() -> Health:
        raise Unavailable("cannot be reached")

    assert only(examine(home, refused), "service").remedy.startswith("start it")
