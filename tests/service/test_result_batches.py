"""Results in batches: each as if it were posted alone, whatever becomes of the others."""

from __future__ import annotations

import dataclasses

from leti.core.codec import from_json, to_json
from leti.core.device import Device
from leti.core.farm import BatchReceipt, ResultBatch

DATABASES = ("sqlite", "postgresql")


def post(house, results):
    answer = house.post("/results/batch", ResultBatch(tuple(results)))
    assert answer.status_code == 200, answer.text
    items = from_json(BatchReceipt, answer.json()).items
    assert [item.index for item in items] == list(range(len(results)))
    return [item.receipt.status if item.receipt else item.problem.type.rpartition(":")[2] for item in items], items


def test_each_of_a_batch_is_answered_for_itself(house):
    house.add_campaign(count=6)
    lost = house.lease(1)
    house.clock.now += 1e4
    lease = house.lease(6)
    (again,) = (job for job in lease.jobs if job.id == lost.jobs[0].id)
    others = [job for job in lease.jobs if job.id != again.id]
    good = [house.result(lease, job) for job in others[:3]]
    batch = [
        good[0],
        house.result(lost, lost.jobs[0]),  # its lease ran out
        dataclasses.replace(good[1], token=lease.token + 1),
        dataclasses.replace(good[1], job_id=10_000),
        dataclasses.replace(good[1], repeat=7),
        dataclasses.replace(good[1], lease_id=10_000),
        good[1],
        good[0],
        house.failed(lease, others[2], "bad-model"),
        good[2],  # it has failed already
        house.result(lease, again),
        house.result(lease, others[3], noisy=True),
    ]
    statuses, items = post(house, batch)
    assert statuses == [
        "stored",
        "late",
        "lease-lost",
        "not-found",
        "invalid-input",
        "not-found",
        "stored",
        "duplicate",
        "stored",
        "duplicate",
        "stored",
        "stored",
    ]
    assert items[4].problem.field == "repeat"
    assert items[7].receipt.measurement_id == items[0].receipt.measurement_id
    assert (items[8].receipt.measurement_id, items[9].receipt.measurement_id) == (None, None)
    rows = house.rows("SELECT id, job_id, late, noisy FROM measurements ORDER BY id")
    stored = [item.receipt.measurement_id for item in items if item.receipt and item.receipt.measurement_id]
    assert sorted(set(stored)) == [row.id for row in rows]
    assert [(row.job_id, bool(row.late), bool(row.noisy)) for row in rows if row.late or row.noisy] == [
        (again.id, True, False),
        (others[3].id, False, True),
    ]
    campaign = house.get("/campaigns/1").json()
    assert (campaign["done"], campaign["failed"], campaign["noisy"]) == (4, 1, 1)
    repeated, _ = post(house, batch)
    assert {one for one in repeated if one in ("stored", "late")} == set()
    assert house.rows("SELECT COUNT(*) FROM measurements") == [(len(rows),)]


def test_faults_of_a_device_put_jobs_back_and_results_between_end_its_row(house):
    house.add_campaign(count=6)
    lease = house.lease(6)
    kinds = ("too-hot", "measured", "too-hot")
    batch = [
        house.result(lease, job) if kind == "measured" else house.failed(lease, job, kind)
        for kind, job in zip(kinds, lease.jobs, strict=False)
    ]
    statuses, _ = post(house, batch)
    assert statuses == ["stored"] * 3
    campaign = house.get("/campaigns/1").json()
    assert (campaign["queued"], campaign["leased"], campaign["done"]) == (2, 3, 1)
    assert house.device().failures_in_a_row == 1


def test_a_batch_of_several_devices_is_kept(house):
    house.add_campaign(count=2)
    first = house.lease(2)
    house.platform = dataclasses.replace(house.platform, device=Device("other", "desktop", "soc", 2))
    house.platform_id = house.platform.id
    house.add_campaign(count=2)
    second = house.lease(2)
    pairs = [
        (lease, job)
        for jobs in zip(first.jobs, second.jobs, strict=True)
        for lease, job in zip((first, second), jobs, strict=True)
    ]
    statuses, _ = post(house, [house.result(lease, job) for lease, job in pairs])
    assert statuses == ["stored"] * 4
    assert [info.measured for info in house.store.devices.list()] == [2, 2]


def test_batches_that_cannot_be_read_are_refused_as_a_whole(house, problem_of):
    house.add_campaign(count=2)
    lease = house.lease(2)
    result = to_json(house.result(lease, lease.jobs[0]))
    neither = result | {"measurement": None}
    for results, status, field in (
        ([], 422, "results"),
        ([result] * 257, 413, "results"),
        ([result, neither], 422, "results[1].measurement"),
        ([result, result | {"job_id": "1"}], 422, "results[1].job_id"),
    ):
        assert problem_of(house.post("/results/batch", {"results": results}), status)["field"] == field
    assert house.rows("SELECT COUNT(*) FROM measurements") == [(0,)]
