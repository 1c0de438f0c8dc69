"""An agent of a phone, over a real service: a battery that goes flat costs nothing, heat is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import measuring
import pytest
from adb_server import until
from phone import Phone

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from leti.cli.processes import ServiceProcess
from leti.client import Backoff, LatencyClient
from leti.core.farm import CampaignRequest, Sample
from leti.device_agents.android.bench import AndroidBench
from leti.device_agents.android.gate import Limits
from leti.device_agents.worker import Agent, Summary


def test_jobs_on_a_phone_that_goes_away_are_given_back_and_done_when_it_is_back(
    android_device: Phone, benches: Callable[..., AndroidBench], tmp_path: Path
) -> None:
    phone = android_device
    bench = benches(phone, back_s=1.0, limits=Limits(poll_s=0.1, wait_s=60.0))
    with ServiceProcess(tmp_path / "service") as service, LatencyClient(service.url) as client:
        client.register_platform(bench.platform)
        request = CampaignRequest("phone", bench.platform.id, (Sample("nasbench201", 1, 9),), repeats=1, profile=True)
        campaign = client.create_campaign(request)
        agent = Agent(client, [bench], spool=tmp_path / "spool", device_backoff=Backoff(0.5, 1.0))
        summaries: list[Summary] = []
        working = threading.Thread(target=lambda: summaries.append(agent.run()))
        phone.fault("start", then="off", match="--num_runs", delay_s=0.2)
        working.start()
        try:

            def state() -> str:
                return next((each.state for each in client.devices()), "unknown")

            until(lambda: state() == "gone", "nobody misses it")
            phone.stop()
            phone.temperature(status=2)
            phone.start()
            until(lambda: state() == "cooling", "it is not waited for")
            phone.temperature(status=0)
            until(lambda: client.campaign(campaign.id).done == 1, "it is not measured", within_s=120)
            until(lambda: state() == "available", "it is not said that it is well")
        finally:
            agent.stop()
            working.join(60)
        assert summaries[0].measured == 1
        assert summaries[0].given_back >= 1
        (row,) = client.measurements(limit=10).items
        measurement = client.measurement(row.id)
        assert measurement.grain == "process"
        assert len(measurement.processes) == len(measurement.passes) == 1
        assert measurement.operator_times
        (device,) = client.devices()
        assert phone.serial_number in device.device.name
        assert device.measured == 1
    measuring.untouched(phone)
