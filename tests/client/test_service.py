"""Every route, against the real service over a socket."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import httpx
import pytest

from leti.client import LatencyClient
from leti.core.device import Platform
from leti.core.errors import InvalidInput, LeaseLost, LetiError, NotFound, TooFewMeasurements, VersionMismatch
from leti.core.farm import (
    CampaignRequest,
    DeviceReport,
    Failure,
    FailureCount,
    JobsChanged,
    JobSelection,
    Lease,
    LeaseRequest,
    Result,
    Sample,
)
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.queries import PredictionRequest
from leti.core.training import TrainingRequest
from leti.core.wire import PROTOCOL_VERSION, NetworksRequest

ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"
OTHER = "|nor_conv_1x1~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"


def measurement(lease: Lease, fingerprint: str) -> Measurement:
    passes = (Pass((1.0, 1.25), (2.0, 2.0)), Pass((1.5,), (2.0, 2.5), calm=False))
    return Measurement(fingerprint, lease.platform_id, lease.reference, passes, Recipe("0.1.0", "2.3.0", "ab" * 32))


def leased(client: LatencyClient, platform: Platform, *, name: str) -> Lease:
    info = client.register_platform(platform)
    client.create_campaign(CampaignRequest(name, info.id, networks=(ARCH, OTHER), repeats=1, repeat_share=0.0))
    lease = client.lease(LeaseRequest("agent-1", info.id, 2))
    assert lease is not None
    return lease


def named(platform: Platform, name: str) -> Platform:
    values = {field.name: getattr(platform, field.name) for field in fields(platform)}
    device = {field.name: getattr(platform.device, field.name) for field in fields(platform.device)}
    return Platform(**{**values, "device": type(platform.device)(**{**device, "name": name})})


def test_health(client: LatencyClient) -> None:
    assert client.health().protocol == PROTOCOL_VERSION


def test_networks_and_their_model_files(client: LatencyClient) -> None:
    first, second = client.add_networks(NetworksRequest((ARCH, OTHER)))
    assert first.fingerprint != second.fingerprint
    assert client.network(first.fingerprint) == first
    model = client.model(first.fingerprint)
    assert model[4:8] == b"TFL3"
    assert hashlib.sha256(client.model(first.fingerprint)).digest() == hashlib.sha256(model).digest()


def test_model_files_of_other_formats_and_precisions(client: LatencyClient) -> None:
    (plain,) = client.add_networks(NetworksRequest((ARCH,)))
    (int8,) = client.add_networks(NetworksRequest((ARCH,), precision="full_integer"))
    assert (plain.precision, int8.precision) == ("float32", "full_integer")
    assert client.model(plain.fingerprint, "pt2")[:4] == b"PK\x03\x04"
    assert len(client.model(int8.fingerprint)) < len(client.model(plain.fingerprint, "tflite"))
    with pytest.raises(InvalidInput) as caught:
        client.model(int8.fingerprint, format="onnx")
    assert (caught.value.field, caught.value.remedy) == ("format", "full_integer is written as tflite")


def test_platforms(client: LatencyClient, platform: Platform) -> None:
    info = client.register_platform(platform)
    assert (info.id, info.platform) == (platform.id, platform)
    assert client.register_platform(platform).id == info.id
    assert client.platform(info.id).platform == platform
    assert info.id in [known.id for known in client.platforms()]


def test_a_job_from_campaign_to_measurement(client: LatencyClient, platform: Platform) -> None:
    lease = leased(client, named(platform, "from-campaign"), name="one")
    first, second = lease.jobs
    client.heartbeat(lease.id, lease.token)
    measured = measurement(lease, first.fingerprint)
    result = Result(lease.id, lease.token, first.id, first.repeat, measurement=measured)
    receipt = client.post_result(result)
    assert receipt.status == "stored"
    assert receipt.measurement_id is not None
    assert client.post_result(result).status == "duplicate"
    failure = Failure("bad-model", "not a model")
    client.post_result(Result(lease.id, lease.token, second.id, second.repeat, failure=failure))
    client.release(lease.id, lease.token)

    assert client.measurement(receipt.measurement_id) == measured
    page = client.measurements(platform_id=lease.platform_id, fingerprint=first.fingerprint, limit=10)
    assert [row.id for row in page.items] == [receipt.measurement_id]
    (campaign,) = [each for each in client.campaigns() if each.platform_id == lease.platform_id]
    assert client.campaign(campaign.id) == campaign
    assert (campaign.done, campaign.failed, campaign.finished) == (1, 1, True)
    assert client.lease(LeaseRequest("agent-1", lease.platform_id)) is None
    assert client.platform(lease.platform_id).networks_measured == 1


def test_a_measured_latency_is_answered_as_measured(client: LatencyClient, platform: Platform) -> None:
    lease = leased(client, named(platform, "measured"), name="measured")
    for job in lease.jobs:
        measured = measurement(lease, job.fingerprint)
        client.post_result(Result(lease.id, lease.token, job.id, job.repeat, measurement=measured))
    request = PredictionRequest((lease.platform_id,), (OTHER, ARCH))
    first, second = client.predict(request).only()
    assert [first.source, second.source] == ["measured", "measured"]
    assert first.fingerprint != second.fingerprint
    columns = client.predict_columns(request)
    assert columns.fingerprints["float32"] == (first.fingerprint, second.fingerprint)
    assert columns.platforms[0].latency_ms == (first.latency_ms, second.latency_ms)


def test_the_services_errors_arrive_as_classes_with_field_and_remedy(client: LatencyClient, platform: Platform) -> None:
    info = client.register_platform(platform)
    calls = {
        NotFound: lambda: client.network("0" * 64),
        InvalidInput: lambda: client.add_networks(NetworksRequest(("|nonsense~0|",))),
        TooFewMeasurements: lambda: client.train(TrainingRequest(info.id)),
    }
    for cls, call in calls.items():
        with pytest.raises(cls) as caught:
            call()
        assert caught.value.field
        assert caught.value.remedy


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.platform("nowhere"),
        lambda client: client.campaign(10**9),
        lambda client: client.measurement(10**9),
        lambda client: client.holdout(10**9),
        lambda client: client.promote(10**9),
        lambda client: client.heartbeat(10**9, 1),
        lambda client: client.release(10**9, 1),
        lambda client: client.predict(PredictionRequest(("nowhere",), (ARCH,))),
        lambda client: client.create_campaign(CampaignRequest("x", "nowhere", (Sample("nasbench201", 1),))),
        lambda client: client.lease(LeaseRequest("agent", "nowhere")),
        lambda client: client.report_device("nowhere", DeviceReport("gone")),
        lambda client: client.quarantine("nowhere", "why not"),
        lambda client: client.release_device("nowhere"),
        lambda client: client.jobs(platform_id="nowhere"),
        lambda client: client.jobs(campaign_id=10**9),
        lambda client: client.retry_jobs(JobSelection((10**9,))),
        lambda client: client.cancel_jobs(JobSelection(campaign_id=10**9)),
        lambda client: client.failure_counts(by="device", platform_id="nowhere"),
        lambda client: client.failure_counts(by="network", campaign_id=10**9),
    ],
)
def test_unknown_things_are_not_found(client: LatencyClient, ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotFound):
        ask(client)


def test_a_wrong_token_is_a_lost_lease(client: LatencyClient, platform: Platform) -> None:
    lease = leased(client, named(platform, "token"), name="token")
    with pytest.raises(LeaseLost):
        client.heartbeat(lease.id, lease.token + 1)
    client.release(lease.id, lease.token)
    with pytest.raises(LeaseLost):
        client.heartbeat(lease.id, lease.token)


def test_devices_and_their_states(client: LatencyClient, platform: Platform) -> None:
    name = "rack 3/ünit #1"  # whatever a machine calls itself
    info = client.register_platform(named(platform, name))
    (device,) = [each for each in client.devices() if each.device.name == name]
    assert (device.state, device.platforms, device.measured, device.failures) == ("available", (info.id,), 0, {})
    cooling = client.report_device(name, DeviceReport("cooling", "45 °C"))
    assert (cooling.state, cooling.reason) == ("cooling", "45 °C")
    assert client.quarantine(name, "a fan is missing").state == "quarantined"
    assert client.lease(LeaseRequest("agent", info.id)) is None
    assert client.release_device(name).state == "available"  # whoever asks for jobs has a device that is ready


def test_jobs_are_listed_retried_and_cancelled(client: LatencyClient, platform: Platform) -> None:
    lease = leased(client, named(platform, "farm"), name="farm")
    first, second = lease.jobs
    failed = Result(lease.id, lease.token, first.id, first.repeat, failure=Failure("timeout", "60 s"))
    client.post_result(failed)
    page = client.jobs(platform_id=lease.platform_id, limit=1)
    assert page.next == page.items[0].id == min(first.id, second.id)
    (info,) = client.jobs(platform_id=lease.platform_id, state="failed").items
    assert (info.id, info.kind, info.message, info.attempts) == (first.id, "timeout", "60 s", 1)
    (info,) = client.jobs(state="leased", fingerprint=second.fingerprint, platform_id=lease.platform_id).items
    assert (info.id, info.agent) == (second.id, "agent-1")
    count = FailureCount(first.fingerprint, "timeout", 1)
    assert client.failure_counts(by="network", platform_id=lease.platform_id) == (count,)
    (count,) = client.failure_counts(by="device", campaign_id=info.campaign_id)
    assert (count.subject, count.kind, count.count) == ("farm", "timeout", 1)
    assert client.cancel_jobs(JobSelection((second.id,))) == JobsChanged(1, 0)
    campaign = client.campaign(info.campaign_id)
    assert (campaign.cancelled, campaign.failed, campaign.finished) == (1, 1, True)
    assert client.retry_jobs(JobSelection(campaign_id=info.campaign_id, kinds=("timeout",))) == JobsChanged(1, 0)
    assert client.campaign(info.campaign_id).queued == 1


def test_no_predictors_yet(client: LatencyClient, platform: Platform) -> None:
    info = client.register_platform(named(platform, "untrained"))
    assert client.predictors(info.id) == ()
    assert client.predictors() == ()
    assert client.promotions(info.id) == ()
    assert client.workers() == ()
    assert info.id not in {one.platform_id for one in client.agents()}
    with pytest.raises(LetiError) as caught:
        client.predict(PredictionRequest((info.id,), (ARCH,))).only()
    assert caught.value.remedy


def test_a_client_of_another_version_is_refused_by_the_service(service_url: str) -> None:
    answer = httpx.get(f"{service_url}/v1/health", headers={"leti-protocol": "999"}, trust_env=False, timeout=60)
    assert 400 <= answer.status_code < 500
    transport = httpx.HTTPTransport()

    class Future(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.headers["leti-protocol"] = "999"
            return transport.handle_request(request)

    with LatencyClient(service_url, transport=Future()) as client, pytest.raises(VersionMismatch):
        client.health()
    transport.close()


def test_one_client_serves_many_threads(client: LatencyClient, platform: Platform) -> None:
    info = client.register_platform(platform)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.platform(info.id).id, range(64)))
    assert set(found) == {info.id}
