"""Devices: what state each is in and why, and those that get no more jobs."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from urllib.parse import quote

import pytest

from leti.core.codec import from_json
from leti.core.device import Device
from leti.core.farm import DeviceInfo, DeviceReport, Heartbeat, Quarantine


def report(house, state, reason=""):
    answer = house.client.put("/v1/devices/box/state", json={"state": state, "reason": reason})
    assert answer.status_code == 200, answer.text
    return from_json(DeviceInfo, answer.json())


def seconds(house, text):
    """Return how long ago a point in time of an answer is."""
    return round(house.clock.now - datetime.fromisoformat(text).timestamp(), 3)


def test_a_device_appears_with_its_first_platform(house, problem_of):
    assert house.get("/devices").json() == []
    problem_of(house.client.put("/v1/devices/box/state", json={"state": "gone"}), 404, "not-found")
    house.add_platform()
    other = dataclasses.replace(house.platform, threads=2)
    house.clock.now += 5
    assert house.post("/platforms", other).status_code == 200
    device = house.device()
    assert (device.device, device.state, device.reason) == (house.platform.device, "available", "")
    assert device.platforms == (house.platform.id, other.id)
    assert (device.measured, device.failures, device.failures_in_a_row, device.last_heartbeat) == (0, {}, 0, None)


def test_the_newest_description_of_a_device_is_kept(house):
    house.add_platform()
    newer = dataclasses.replace(house.platform, device=Device("box", "desktop", "soc", 2, "Linux 7"))
    house.clock.now += 1
    house.post("/platforms", newer)
    assert house.device().device.os == "Linux 7"
    assert house.device().platforms == (house.platform.id, newer.id)


def test_a_device_is_busy_while_it_has_a_lease_and_then_available_since(house):
    house.add_campaign(count=2)
    house.clock.now += 50
    lease = house.lease(1, agent="agent-7")
    house.clock.now += 10
    device = house.device()
    assert (device.state, device.reason) == ("busy", "measures for 'agent-7'")
    assert seconds(house, device.since) == 10
    assert seconds(house, device.last_heartbeat) == 10
    house.report(lease, lease.jobs[0])
    house.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token})
    house.clock.now += 3
    device = house.device()
    assert (device.state, seconds(house, device.since), device.measured) == ("available", 3, 1)


def test_a_lease_that_ran_out_keeps_no_device_busy(house):
    house.add_campaign(count=1)
    house.lease(1)
    house.clock.now += house.settings.lease_s + 4
    assert house.device().state == "available"
    house.clock.now += 2
    assert house.lease(1) is not None
    house.clock.now += 1
    assert (house.device().state, seconds(house, house.device().since)) == ("busy", 1)


def test_a_silent_device_is_gone_until_somebody_speaks_for_it(house):
    house.add_platform()
    house.clock.now += house.settings.gone_after_s - 1
    assert house.device().state == "available"
    house.clock.now += 8
    device = house.device()
    assert (device.state, seconds(house, device.since)) == ("gone", 7)
    assert "no agent has spoken" in device.reason
    assert house.lease() is None  # a claim, though there is nothing to do
    house.clock.now += 2
    device = house.device()
    assert (device.state, seconds(house, device.since)) == ("available", 2)


def test_heartbeats_are_the_devices_too(house):
    house.add_campaign(count=1)
    lease = house.lease()
    for _ in range(5):
        house.clock.now += house.settings.lease_s * 0.9
        assert house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token)).status_code == 204
    assert house.device().state == "busy"
    assert seconds(house, house.device().last_heartbeat) == 0


def test_an_agent_says_that_its_device_cools_and_is_gone(house):
    house.add_campaign(count=1)
    lease = house.lease()
    device = report(house, "cooling", "battery at 43 °C")
    assert (device.state, device.reason) == ("cooling", "battery at 43 °C")
    house.clock.now += 5
    device = report(house, "cooling", "battery at 42 °C")
    assert (device.reason, seconds(house, device.since)) == ("battery at 42 °C", 5)
    assert report(house, "available").state == "busy"
    device = report(house, "gone", "adb lists no such device")
    assert (device.state, device.reason) == ("gone", "adb lists no such device")
    house.clock.now += 1
    assert house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token)).status_code == 204
    assert house.device().state == "gone"  # the agent lives, the phone is unplugged all the same
    house.client.delete(f"/v1/leases/{lease.id}", params={"token": lease.token})
    assert house.lease() is not None  # who asks for jobs has it back
    assert house.device().state == "busy"


def test_the_gravest_state_is_shown(house):
    house.add_campaign(count=1)
    house.lease()
    report(house, "cooling", "hot")
    house.clock.now += house.settings.gone_after_s + 1
    assert house.device().state == "gone"
    house.client.put("/v1/devices/box/quarantine", json={"reason": "smoke"})
    assert (house.device().state, house.device().reason) == ("quarantined", "a user: smoke")


def test_what_is_quarantined_gets_no_jobs_until_it_is_released(house):
    house.add_campaign(count=2)
    lease = house.lease(1)
    answer = house.client.put("/v1/devices/box/quarantine", json={"reason": " the fan is broken "})
    assert answer.json()["state"] == "quarantined"
    assert answer.json()["reason"] == "a user: the fan is broken"
    house.clock.now += 5
    assert house.lease(1) is None
    assert seconds(house, house.device().since) == 5
    assert house.post(f"/leases/{lease.id}/heartbeat", Heartbeat(lease.token)).status_code == 204
    assert house.report(lease, lease.jobs[0]).status == "stored"  # what it has it may finish
    again = house.client.put("/v1/devices/box/quarantine", json={"reason": "still"}).json()
    assert (again["reason"], again["since"]) == ("a user: still", answer.json()["since"])
    for _ in range(2):
        assert house.client.delete("/v1/devices/box/quarantine").json()["state"] == "busy"
    assert house.lease(1) is not None


def test_a_device_may_be_called_anything(house):
    for name in ("a/b", "x/state", "pixel 8 #2", "ünï?"):
        platform = dataclasses.replace(house.platform, device=Device(name, "android", "soc", 8))
        assert house.post("/platforms", platform).status_code == 200
        path = f"/v1/devices/{quote(name, safe='')}"
        for answer in (
            house.client.put(f"{path}/state", json={"state": "cooling"}),
            house.client.put(f"{path}/quarantine", json={"reason": "why"}),
            house.client.delete(f"{path}/quarantine"),
        ):
            assert answer.status_code == 200, answer.text
            assert answer.json()["device"]["name"] == name


def test_states_survive_a_restart(house):
    house.add_campaign(count=1)
    report(house, "cooling", "hot")
    house.client.put("/v1/devices/box/quarantine", json={"reason": "smoke"})
    before = house.device()
    house.close()
    house.open()
    assert house.device() == before


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("state", {"state": "busy"}, "state"),
        ("state", {"state": "quarantined"}, "state"),
        ("state", {}, "state"),
        ("state", {"state": "gone", "reason": 3}, "reason"),
        ("state", {"state": "gone", "because": "x"}, "because"),
        ("quarantine", {}, "reason"),
        ("quarantine", {"reason": "  "}, "reason"),
        ("quarantine", {"reason": "x" * 501}, "reason"),
    ],
)
def test_bad_reports_are_named(house, problem_of, path, body, field):
    house.add_platform()
    answer = house.client.put(f"/v1/devices/box/{path}", json=body)
    assert problem_of(answer, 422, "invalid-input")["field"] == field
    assert house.device().state == "available"


def test_long_reasons_of_agents_are_cut_not_refused(house):
    house.add_platform()
    assert len(report(house, "gone", "x" * 10_000).reason) == 2_000


def test_the_types_of_the_wire_are_what_is_sent(house):
    house.add_platform()
    assert house.client.put("/v1/devices/box/state", json=dataclasses.asdict(DeviceReport("gone"))).status_code == 200
    body = dataclasses.asdict(Quarantine("why"))
    assert house.client.put("/v1/devices/box/quarantine", json=body).status_code == 200
