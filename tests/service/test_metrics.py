"""/metrics: what it counts, of this process and of the farm, on both databases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from leti.service import metrics as counted

DATABASES = ("sqlite", "postgresql")


def read(house: Any) -> Mapping[str, float]:
    answer = house.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(f"[{value}]" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "FRESH_S", -1.0)


def test_the_farm_is_counted(house: Any) -> None:
    house.add_campaign(count=4)
    lease = house.lease(2)
    house.report(lease, lease.jobs[0])
    house.fail(lease, lease.jobs[1])
    held = house.lease(1)
    house.clock.now += 40
    house.store.workers.seen("gone", "1.0")
    house.clock.now += 100
    house.store.workers.seen("there", "1.0")
    house.clock.now += 40
    assert read(house)["leti_workers"] == 1
    house.clock.now -= 140
    found = read(house)
    on = house.platform_id
    jobs = {state: found[f"leti_jobs[{on}][{state}]"] for state in ("queued", "leased", "failed", "poison")}
    assert jobs == {"queued": 1, "leased": 1, "failed": 1, "poison": 0}
    assert found[f"leti_leases[{on}]"] == 2  # the first one's jobs are done, it was not given back
    assert found[f"leti_lease_oldest_age_seconds[{on}]"] == 40
    assert found[f"leti_lease_overdue_seconds[{on}]"] == 0
    assert found[f"leti_device_silent_seconds[{house.platform.device.name}]"] == 40
    assert found[f"leti_device_quarantined[{house.platform.device.name}]"] == 0
    assert found["leti_database_up"] == 1
    assert found["leti_database_connections_kept"] > 0
    assert found["leti_database_checkouts_total"] > 5
    assert found[f"leti_build_info[{counted.PROTOCOL_VERSION}][{counted.metadata.version('leti')}]"] == 1
    house.clock.now += 30  # 70 s after the last sign: the lease has run out
    house.client.put(f"/v1/devices/{house.platform.device.name}/quarantine", json={"reason": "a test"})
    found = read(house)
    assert found[f"leti_lease_overdue_seconds[{on}]"] == 10
    assert found[f"leti_device_quarantined[{house.platform.device.name}]"] == 1
    assert held is not None


@pytest.mark.sqlite
def test_requests_are_counted_by_route_and_status(house: Any) -> None:
    for _ in range(3):
        house.get("/platforms/nobody")
    house.get("/platforms")
    house.client.request("BREW", "/v1/platforms")
    found = read(house)
    assert found["leti_requests_total[GET][/v1/platforms/{platform_id}][404]"] == 3
    assert found["leti_requests_total[GET][/v1/platforms][200]"] == 1
    assert found["leti_request_duration_seconds_count[GET][/v1/platforms/{platform_id}]"] == 3
    assert found["leti_problems_total[not-found]"] == 3
    assert found["leti_requests_in_flight"] == 1  # this one
    assert not [name for name in found if "nobody" in name or "BREW" in name]


@pytest.mark.sqlite
def test_it_goes_on_without_the_database(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house.add_platform()
    house.store._database._engine.dispose()
    house.settings.database_file.write_bytes(b"no database any more" * 1000)
    for suffix in ("-wal", "-shm"):
        house.settings.database_file.with_name(f"leti.sqlite{suffix}").unlink(missing_ok=True)
    found = read(house)
    assert found["leti_database_up"] == 0
    assert found["leti_requests_total[POST][/v1/platforms][200]"] == 1
    assert not [name for name in found if name.startswith("leti_jobs")]


@pytest.mark.sqlite
def test_the_farm_is_read_at_most_every_few_seconds(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "FRESH_S", 3600.0)
    house.add_campaign(count=2)
    queued = f"leti_jobs[{house.platform_id}][queued]"
    assert read(house)[queued] == 2
    house.lease(1)
    assert read(house)[queued] == 2
    assert re.search(r"leti_requests_total\{.*lease", house.client.get("/metrics").text)
