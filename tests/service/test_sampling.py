"""Campaigns whose networks are chosen, by the real service."""

import pytest

from leti.core.device import Device, Platform
from leti.core.errors import ArtifactError
from leti.core.farm import CampaignRequest, Sample

OTHER = Platform(Device("other", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")


def create(house, name, sampling, platform_id=None, count=4, seed=0):
    samples = (Sample("nasbench201", count, seed, house.small),)
    request = CampaignRequest(name, platform_id or house.platform_id, samples, repeats=1, sampling=sampling)
    answer = house.post("/campaigns", request)
    assert answer.status_code == 201, answer.text
    return answer.json(), request


def chosen(house, campaign_id):
    return {row[0] for row in house.rows(f"SELECT fingerprint FROM jobs WHERE campaign_id = {campaign_id}")}


def test_diverse_networks_are_not_the_first_that_are_drawn(house):
    house.add_platform()
    random, _ = create(house, "random", "random")
    diverse, request = create(house, "diverse", "diverse")
    assert diverse["networks"] == 4
    assert diverse["remark"] == ""
    assert chosen(house, diverse["id"]) != chosen(house, random["id"])
    again = house.post("/campaigns", request)
    assert (again.status_code, again.json()["id"]) == (200, diverse["id"])


def test_active_sampling_says_so_where_no_predictor_is_active(house):
    house.add_platform()
    diverse, _ = create(house, "diverse", "diverse")
    active, _ = create(house, "active", "active")
    assert active["remark"] == "chosen by diversity: no platform has an active predictor"
    assert chosen(house, active["id"]) == chosen(house, diverse["id"])


def test_active_sampling_asks_the_predictors_of_all_platforms(house):
    house.add_campaign(count=36)
    while (lease := house.lease(8)) is not None:
        for job in lease.jobs:
            house.report(lease, job)
    house.train("flops", "linear", holdout_share=0.2)
    assert house.post("/platforms", OTHER).status_code == 200
    diverse, _ = create(house, "diverse", "diverse", OTHER.id)
    active, _ = create(house, "active", "active", OTHER.id)
    assert active["remark"] == ""
    assert active["networks"] == 4
    assert chosen(house, active["id"]) != chosen(house, diverse["id"])
    here, _ = create(house, "here", "active", count=6, seed=5)
    first = house.rows("SELECT MIN(id) FROM campaigns")[0][0]
    assert not chosen(house, here["id"]) & chosen(house, first)  # those are measured


def test_a_predictor_that_cannot_be_loaded_is_named(house):
    test_active_sampling_asks_the_predictors_of_all_platforms(house)
    for folder in house.settings.predictors.iterdir():
        for path in folder.iterdir():
            path.write_bytes(b"")
    house.close()
    house.open()
    with pytest.raises(ArtifactError):
        house.app.state.parts.answerer._loaded.get(next(iter(house.settings.predictors.iterdir())).name)
    active, _ = create(house, "after", "active", OTHER.id, seed=9)
    assert "cannot be loaded" in active["remark"]


def test_refuses_a_way_that_is_none(house):
    house.add_platform()
    body = {"name": "x", "platform_id": house.platform_id, "samples": [{"space": "nasbench201", "count": 2}]}
    answer = house.post("/campaigns", {**body, "sampling": "best"})
    assert answer.status_code == 422
