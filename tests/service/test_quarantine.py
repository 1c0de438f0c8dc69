"""Devices that the service quarantines by itself, and those that it does not."""

from __future__ import annotations

from typing import get_args

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra service")

from leti.core.farm import FailureKind
from leti.service.store.events import AGAINST_DEVICE

DATABASES = ("sqlite", "postgresql")


def fail_alone(house, kind, count):
    """Let ``count`` networks fail, each under a lease of its own; return whether each lease was had."""
    had = []
    for _ in range(count):
        lease = house.lease(1)
        had.append(lease is not None)
        if lease is not None:
            house.fail(lease, lease.jobs[0], kind, f"{kind}!")
            house.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token})
    return had


@pytest.mark.parametrize("kind", ["crashed", "device-gone"])
def test_a_device_that_fails_in_a_row_is_quarantined_by_the_service(house, kind):
    after = house.settings.quarantine_after
    house.add_campaign(count=2 * after)
    assert fail_alone(house, kind, after - 1) == [True] * (after - 1)
    assert (house.device().state, house.device().failures_in_a_row) == ("available", after - 1)
    assert fail_alone(house, kind, 2) == [True, False]
    device = house.device()
    assert device.state == "quarantined"
    assert device.reason == f"the service: {after} failures in a row speak against the device, lastly {kind}: {kind}!"
    assert device.failures == {kind: after}
    released = house.client.delete("/v1/devices/box/quarantine").json()
    assert (released["state"], released["failures_in_a_row"], released["failures"]) == ("available", 0, {kind: after})
    assert fail_alone(house, kind, after - 1) == [True] * (after - 1)
    assert house.device().failures_in_a_row == after - 1


def test_failures_of_networks_do_not_speak_against_their_device(house):
    kinds = sorted(set(get_args(FailureKind)) - AGAINST_DEVICE)
    assert kinds == ["bad-model", "other", "out-of-memory", "partial-delegation", "unsupported"]
    house.add_campaign(count=10)
    for kind in kinds:
        assert fail_alone(house, kind, 2) == [True] * 2
    device = house.device()
    assert (device.state, device.failures, device.failures_in_a_row) == ("available", dict.fromkeys(kinds, 2), 0)


def test_one_measurement_ends_the_row(house):
    after = house.settings.quarantine_after
    house.add_campaign(count=4 * after)
    for _ in range(2):
        assert fail_alone(house, "crashed", after - 1) == [True] * (after - 1)
        lease = house.lease(1)
        house.report(lease, lease.jobs[0])
        assert house.device().failures_in_a_row == 0
    assert fail_alone(house, "bad-model", 1) == [True]  # says nothing of the device: neither counts nor ends the row
    assert fail_alone(house, "crashed", after) == [True] * after
    assert house.device().state == "quarantined"


def test_one_network_that_fails_again_and_again_is_not_the_devices_fault(house):
    house.add_campaign(count=1, repeats=10, repeat_share=1.0)
    assert fail_alone(house, "timeout", 10) == [True] * 10
    assert (house.device().state, house.device().failures_in_a_row) == ("available", 1)


def test_a_lost_lease_is_one_incident_however_many_networks_were_in_it(house):
    after = house.settings.quarantine_after
    house.add_campaign(count=4 * after)
    for lost in range(after):
        assert len(house.lease(4).jobs) == 4
        assert house.device().failures_in_a_row == lost
        house.clock.now += house.settings.lease_s + 1
    assert house.lease(4) is None
    device = house.device()
    assert (device.state, device.failures_in_a_row) == ("quarantined", after)
    assert device.failures == {"lost": 4 * after}
    assert "lost: agent 'agent' fell silent" in device.reason


def test_a_fault_of_the_device_is_one_incident_a_lease(house):
    house.add_campaign(count=16)
    for incidents in (1, 2):
        lease = house.lease(8)
        for job in lease.jobs:
            house.fail(lease, job, "link-lost")
        assert house.device().failures_in_a_row == incidents
    assert house.device().state == "busy"
