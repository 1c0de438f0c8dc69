"""Backup and restore: made while measurements come in, and a restored service answers the same."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leti.core.errors import ArtifactError, Conflict, InvalidInput
from leti.core.queries import PredictionRequest
from leti.generator.spaces import get_space
from leti.service.backup import back_up, restore
from leti.service.settings import Settings

DATABASES = ("postgresql",)
MODELS = 2


def fill(house: Any) -> Any:
    """Give a service measurements and a predictor; return what to ask it later."""
    house.add_campaign(count=34)
    house.measure_all()
    house.train("flops")
    for (name,) in house.rows(f"SELECT fingerprint FROM networks LIMIT {MODELS}"):
        assert house.get(f"/networks/{name}/model").status_code == 200, "its file is written as it is asked for"
    unmeasured = dataclasses.replace(house.small, modules_per_stack=2)  # no campaign here has a network of this size
    specs = get_space("nasbench201").sample(8, 99, unmeasured)
    return PredictionRequest((house.platform_id,), tuple(spec.to_json() for spec in specs))


def ask(house: Any, request: PredictionRequest) -> Any:
    answer = house.post("/predictions", request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def measure_meanwhile(house: Any, do: Any) -> int:
    """Have an agent measure while something is done; return how many results were acknowledged before it began."""
    house.add_campaign("meanwhile", count=24, seed=5)
    begun, ended = threading.Event(), threading.Event()

    def measure() -> None:
        while not ended.is_set() and (lease := house.lease(4)) is not None:
            for job in lease.jobs:
                house.report(lease, job)
            begun.set()

    agent = threading.Thread(target=measure)
    agent.start()
    assert begun.wait(60)
    before = count(house)
    try:
        do()
    finally:
        ended.set()
        agent.join()
    return before


def count(house: Any) -> int:
    return int(house.rows("SELECT count(*) FROM measurements")[0][0])


def check(copy: Any, original: Any, request: PredictionRequest, expected: Any, before: int) -> None:
    """See that the restored service has all that was acknowledged, is of one piece, and answers the same."""
    assert before <= count(copy) <= count(original)
    done = copy.rows("SELECT count(*) FROM jobs WHERE state = 'done'")[0][0]
    assert done == count(copy), "a result was copied in half"
    assert ask(copy, request) == expected
    copy.measure_all()
    waiting = copy.rows("SELECT count(*) FROM jobs WHERE state = 'queued'")[0][0]
    assert waiting == 0


@pytest.mark.sqlite
def test_an_embedded_service(house: Any, tmp_path: Path) -> None:
    request = fill(house)
    expected = ask(house, request)
    file = tmp_path / "leti.tar"
    before = measure_meanwhile(house, lambda: back_up(house.settings, file))
    assert file.stat().st_mode & 0o077 == 0, "it holds hashes of tokens"
    settings = dataclasses.replace(house.settings, home=tmp_path / "restored")
    restored = restore(file, settings)
    kept = {path.name: path.read_bytes() for path in house.settings.models.iterdir()}
    assert len(kept) == MODELS
    assert kept == {path.name: path.read_bytes() for path in settings.models.iterdir()}
    assert restored.artifacts > MODELS, "predictors are artifacts as well"
    copy = type(house)(settings)
    copy.clock.now = house.clock.now + 3600  # what was lent meanwhile runs out
    check(copy, house, request, expected, before)
    copy.close()
    with pytest.raises(Conflict, match="not empty"):
        restore(file, settings)
    with pytest.raises(Conflict, match="there already"):
        back_up(house.settings, file)


@pytest.mark.sqlite
def test_what_is_no_backup_leaves_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home")
    file = tmp_path / "file.tar"
    file.write_bytes(b"no archive at all" * 100)
    with pytest.raises(ArtifactError, match="no backup"):
        restore(file, settings)
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "leti.sqlite")
    with pytest.raises(ArtifactError, match="damaged"):
        restore(file, settings)
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "../outside")
    with pytest.raises(ArtifactError, match="no backup"):
        restore(file, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["file.tar"]
    with pytest.raises(InvalidInput, match="pg_dump"):
        back_up(Settings(tmp_path, database_url="postgresql://db/leti"), tmp_path / "x.tar")


def test_a_service_on_postgresql(
    house: Any, tmp_path: Path, postgresql_databases: Any, postgresql_tool: Callable[[str], str]
) -> None:
    """As docs/operations.md says: pg_dump first, then the artifacts; pg_restore into an empty database."""
    request = fill(house)
    expected = ask(house, request)
    dump = tmp_path / "leti.dump"

    def copy_all() -> None:
        run = [postgresql_tool("pg_dump"), "--format=custom", f"--file={dump}", house.settings.database_url]
        subprocess.run(run, check=True, capture_output=True)
        shutil.copytree(house.settings.home, tmp_path / "restored", dirs_exist_ok=True)

    before = measure_meanwhile(house, copy_all)
    there = postgresql_databases.new()
    run = [postgresql_tool("pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={there}", str(dump)]
    subprocess.run(run, check=True, capture_output=True)
    copy = type(house)(dataclasses.replace(house.settings, home=tmp_path / "restored", database_url=there))
    copy.clock.now = house.clock.now + 3600
    try:
        check(copy, house, request, expected, before)
    finally:
        copy.close()
        postgresql_databases.drop(there)
