"""Networks that are measured because somebody asked for their latency; and predictions that are written later."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from leti.core.codec import from_json
from leti.core.errors import StorageError
from leti.core.queries import PredictionRequest, PredictionResponse
from leti.core.spec import NetworkConfig
from leti.core.wire import NetworksRequest
from leti.generator.lowering import lower
from leti.generator.spaces import get_space

DATABASES = ("sqlite", "postgresql")
SMALL = NetworkConfig(stacks=1, modules_per_stack=1)


def networks(count, seed=5):
    return tuple(spec.to_json() for spec in get_space("nasbench201").sample(count, seed, SMALL))


def ask(house, *asked, platform_ids=None):
    request = PredictionRequest(platform_ids or (house.platform_id,), asked)
    answer = house.post("/predictions?wait=measure", request)
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json())


def counts(answer):
    return [(platform.queued, platform.waiting) for platform in answer.platforms]


def test_what_is_asked_for_is_measured_once(house):
    house.add_platform()
    given = networks(3)
    first = ask(house, *given, given[0])
    assert counts(first) == [(3, 0)]
    assert [(failure.index, failure.stage) for failure in first.failures] == [(i, "predict") for i in range(4)]
    assert counts(ask(house, *given[:2])) == [(0, 2)]
    (campaign,) = house.store.campaigns.page(platform_id=house.platform_id, cursor=0, limit=9).items
    assert (campaign.name, campaign.networks, campaign.queued) == ("asked", 3, 3)
    assert house.measure_all() == 3
    again = ask(house, *given, given[0])
    assert counts(again) == [(0, 0)]
    assert {item.source for item in again.only()} == {"measured"}
    assert counts(ask(house, *networks(2, seed=6))) == [(2, 0)]
    found = house.store.campaigns.get(campaign.id)
    assert (found.networks, found.done, found.queued) == (5, 3, 2)


def test_what_a_campaign_will_measure_waits_already_and_comes_first(house):
    given = networks(4)
    campaign = house.add_campaign(count=0, networks=given[:2], priority=-100)
    assert counts(ask(house, *given)) == [(2, 2)]
    lease = house.lease(1)
    assert (
        house.store.jobs.page(
            platform_id=None, campaign_id=campaign["id"], state="leased", fingerprint=None, cursor=0, limit=9
        )
        .items[0]
        .id
        == lease.jobs[0].id
    )


def test_what_failed_is_told_and_not_tried_for_ever(house):
    house.add_platform()
    (given,) = networks(1)
    ask(house, given)
    lease = house.lease()
    house.fail(lease, lease.jobs[0], "bad-model", "its file has no end")
    answer = ask(house, given)
    assert counts(answer) == [(0, 0)]
    (failure,) = [failure for failure in answer.failures if failure.stage == "measure"]
    assert (failure.index, failure.problem.type) == (0, "urn:leti:problem:measurement-failed")
    assert "its file has no end" in failure.problem.detail
    assert house.post("/jobs/retry", {"job_ids": [lease.jobs[0].id]}).status_code == 200
    assert counts(ask(house, given)) == [(0, 1)]


def test_what_was_measured_in_noise_is_measured_again(house):
    house.add_platform()
    given = networks(2)
    ask(house, *given)
    lease = house.lease()
    house.report(lease, lease.jobs[0], noisy=True)
    house.report(lease, lease.jobs[1])
    assert counts(ask(house, *given)) == [(1, 0)]
    assert counts(ask(house, *given)) == [(0, 1)]
    assert [job.repeat for job in house.lease().jobs] == [1]


def test_several_platforms_queue_each_their_own(house):
    house.add_platform()
    others = [dataclasses.replace(house.platform, threads=2), dataclasses.replace(house.platform, threads=3)]
    for other in others:
        assert house.post("/platforms", other).status_code == 200
    ids = (house.platform_id, *(other.id for other in others))
    given = networks(2)
    ask(house, *given)
    assert counts(ask(house, *given, platform_ids=ids)) == [(0, 2), (2, 0), (2, 0)]


def test_every_form_can_be_measured(house):
    house.add_platform()
    first, second, third = get_space("nasbench201").sample(3, 5, SMALL)
    assert house.post("/networks", NetworksRequest((second.to_json(),))).status_code == 200
    graph = {"graph": lower(third).to_json()}
    answer = ask(house, first.to_json(), lower(second).fingerprint(), graph, "nonsense")
    assert counts(answer) == [(3, 0)]
    assert [failure.index for failure in answer.failures if failure.stage == "read"] == [3]
    assert house.measure_all() == 3
    items = ask(house, first.to_json(), second.to_json(), third.to_json()).only()
    assert [item.fingerprint for item in items] == [lower(spec).fingerprint() for spec in (first, second, third)]
    assert {item.source for item in items} == {"measured"}


def test_a_campaign_of_that_name_is_not_added_to(house, problem_of):
    house.add_campaign("asked", count=0, networks=networks(1))
    request = PredictionRequest((house.platform_id,), networks(2))
    assert problem_of(house.post("/predictions?wait=measure", request), 409, "conflict")["field"] == "wait"


def test_many_who_ask_at_once_queue_each_network_once(house):
    house.add_platform()
    given = networks(4)
    told = []
    together = threading.Barrier(4)

    def run():
        together.wait()
        told.append(ask(house, *given))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts(answer)[0] for answer in told) == [(0, 4), (0, 4), (0, 4), (4, 0)]
    assert house.measure_all() == 4


def keep(house, names, latency=1.0, predictor_id=1):
    column = [latency] * len(names)
    house.store.predictions.keep(predictor_id, 0.9, names, column, column, column)


def kept(house):
    rows = house.rows("SELECT fingerprint, latency_ms FROM predictions ORDER BY fingerprint")
    return [(fingerprint[0], latency) for fingerprint, latency in rows]


def test_predictions_are_written_later_and_none_is_lost(measured, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the extra boosting")

    def refuse(*_):
        raise StorageError("the database refused")

    house = measured
    house.train("flops")
    with monkeypatch.context() as patch:
        patch.setattr(house.store._database, "insert_new", refuse)
        keep(house, ["a" * 64, "b" * 64])
        keep(house, ["b" * 64, "c" * 64], latency=2.0)
        with pytest.raises(StorageError):
            house.store.predictions.flush()
        assert kept(house) == []
    house.close()
    house.open()
    assert kept(house) == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    keep(house, ["a" * 64, "d" * 64], latency=3.0)
    house.store.predictions.flush()
    assert kept(house) == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 3.0)]
