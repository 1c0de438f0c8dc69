"""Campaigns and jobs: begun by a form, watched, retried and cancelled."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.service.dashboard.test_learning_pages import HOME, led_to, text_of

DATABASES = ("sqlite", "postgresql")


def form_for(house: Any, **more: Any) -> dict[str, Any]:
    base = {"name": "one", "platform_id": house.platform_id, "repeats": "3", "repeat_share": "50", "priority": "2"}
    return {**base, "space": ["fbnet", ""], "count": ["4", "9"], "seed": ["1", ""], "do": "begin", **more}


def jobs_of(house: Any, **filters: Any) -> Any:
    known = dict.fromkeys(("platform_id", "campaign_id", "state", "fingerprint"))
    return house.store.jobs.page(**{**known, **filters}, cursor=0, limit=1000).items


@pytest.mark.sqlite
def test_a_campaign_begins_by_the_form_as_it_was_counted(house: Any) -> None:
    assert "There is no platform yet" in text_of(house.client.get(f"{HOME}/campaigns/new"))
    house.add_platform()
    fields = form_for(
        house, networks=f"{house.architecture}\n\n", compressed=f"\n{house.architecture}", forms="2", profile="false"
    )
    counted = text_of(house.client.post(f"{HOME}/campaigns/new", data={**fields, "do": "count"}))
    assert "15 jobs : 7 networks, 4 of them measured 3 times" in counted
    assert not jobs_of(house)
    address = led_to(house.client.post(f"{HOME}/campaigns/new", data=fields, follow_redirects=False))
    (campaign,) = house.store.campaigns.page(platform_id=None, cursor=0, limit=9).items
    assert (campaign.name, campaign.networks, campaign.jobs, campaign.priority) == ("one", 7, 15, 2)
    assert address == f"{HOME}/campaigns/{campaign.id}"
    (form,) = {row[0] for row in house.rows("SELECT MIN(fingerprint) FROM networks WHERE source = 'patch'")}
    assert "it is compressed from" in text_of(house.client.get(f"{HOME}/networks/{form}"))
    again = house.client.post(f"{HOME}/campaigns/new", data=fields, follow_redirects=False)
    assert led_to(again) == address, "the same campaign is found"
    other = house.client.post(f"{HOME}/campaigns/new", data={**fields, "repeats": "2"})
    assert "another campaign on this platform is called" in text_of(other, 409)


@pytest.mark.sqlite
def test_a_baseline_is_given_by_name_and_shown_with_its_campaign(house: Any) -> None:
    house.add_platform()
    fields = form_for(house, baseline=f" {house.architecture} ")
    counted = text_of(house.client.post(f"{HOME}/campaigns/new", data={**fields, "do": "count"}))
    assert "the baseline once, and again in each lease" in counted
    address = led_to(house.client.post(f"{HOME}/campaigns/new", data=fields, follow_redirects=False))
    (campaign,) = house.store.campaigns.page(platform_id=None, cursor=0, limit=9).items
    shown = house.client.get(address)
    assert "measured in turns with the others" in text_of(shown)
    assert f"networks/{campaign.baseline}" in shown.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": ["many", "9"]}, "samples[0].count is no number: &#39;many&#39;"),
        ({"count": ["0", "9"]}, "samples[0].count must be 1 or more"),
        ({"compressed": "nasbench201:1,1,1,1,1,1", "forms": "0"}, "compressed[0].count must be 1 or more"),
        ({"space": ["nowhere", ""]}, "samples[0].space there is no search space"),
        ({"space": ["", ""]}, "samples names no network"),
        ({"repeat_share": "nan"}, "repeat_share must be from 0 to 1"),
        ({"repeats": "1e3"}, "repeats is no number"),
        ({"networks": "nonsense|"}, "networks[0] &#39;nonsense|&#39; is no architecture string"),
        ({"sampling": "best"}, "sampling is unknown"),
        ({"platform_id": "nowhere"}, "platform_id"),
        ({"baseline": "nonsense|"}, "baseline &#39;nonsense|&#39; is no architecture string"),
        ({"name": " "}, "name must be 1 to 200 characters"),
    ],
)
def test_what_is_refused_is_said_and_what_was_typed_is_kept(shared: Any, wrong: dict[str, Any], said: str) -> None:
    fields = form_for(shared, **wrong)
    answer = shared.client.post(f"{HOME}/campaigns/new", data=fields)
    assert answer.status_code in (404, 422)
    assert said in text_of(answer, answer.status_code)
    assert 'aria-invalid="true"' in answer.text or wrong.get("space") == ["", ""]
    for name in ("name", "repeats", "repeat_share", "priority"):
        assert f'name="{name}"' in answer.text
        assert f'value="{fields[name]}"' in answer.text
    if fields["space"][0] == "fbnet":
        assert f'value="{fields["count"][0]}"' in answer.text
    assert not shared.store.campaigns.page(platform_id=None, cursor=0, limit=9).items


def test_a_campaign_says_how_far_and_how_fast_it_is(house: Any) -> None:
    assert "No campaign yet" in text_of(house.client.get(f"{HOME}/campaigns"))
    campaign = house.add_campaign(count=8)
    address = f"{HOME}/campaigns/{campaign['id']}"
    said = text_of(house.client.get(address))
    assert "0 of 8 jobs have ended (0.0 %)" in said
    assert "nothing measured yet" in said
    assert "Nothing is measured yet." in text_of(house.client.get(f"{address}/pace"))
    lease = house.lease(8)
    for job in lease.jobs[:5]:
        house.clock.now += 10
        house.report(lease, job)
    house.fail(lease, lease.jobs[5], "unsupported")
    running = house.client.get(f"{address}/live")
    said = text_of(running)
    assert "6 of 8 jobs have ended (75.0 %)" in said
    assert "6 measurements a minute, of the last 40 s" in said  # the first one's time is not known
    assert "about 20 s, if the 2 jobs left go on at this pace" in said
    assert "unsupported 1 0" in said
    assert 'hx-trigger="every 2s"' in running.text
    assert lease.jobs[4].fingerprint in running.text
    file = house.client.get(f"{address}/pace?format=csv").text.splitlines()
    assert sum(int(line.rpartition(",")[2]) for line in file[1:]) == 5
    house.clock.now += 700
    assert "nothing measured in the last 10 min" in text_of(house.client.get(address))
    assert house.measure_all() == 2
    ended = house.client.get(f"{address}/live")
    assert "nothing is left to measure" in text_of(ended)
    assert 'hx-trigger="every' not in ended.text


def test_jobs_are_cancelled_and_retried_by_campaign_by_kind_and_by_ticks(house: Any) -> None:
    campaign = house.add_campaign(count=6)
    address, jobs = f"{HOME}/campaigns/{campaign['id']}", f"{HOME}/jobs"
    lease = house.lease(4)
    for job, kind in zip(lease.jobs, ("unsupported", "unsupported", "crashed", "too-hot"), strict=True):
        house.fail(lease, job, kind)
    said = text_of(house.client.get(address))
    assert "unsupported 2 0" in said
    assert "too-hot 0 1" in said
    assert len(re.findall(r'name="job_ids"', house.client.get(f"{jobs}?kind=unsupported").text)) == 2
    done = house.client.post(f"{address}/retry", data={"kind": "unsupported"}, follow_redirects=False)
    assert led_to(done) == f"{address}?changed=2&skipped=0"
    assert "2 jobs were changed." in text_of(house.client.get(led_to(done)))
    assert [job.kind for job in jobs_of(house, state="failed")] == ["crashed"]
    done = house.client.post(f"{address}/cancel", data={"kind": ""}, follow_redirects=False)
    assert led_to(done) == f"{address}?changed=5&skipped=1"
    ticked = [job.id for job in jobs_of(house, state="cancelled")][:2]
    query = f"?campaign_id={campaign['id']}&state=cancelled"
    done = house.client.post(f"{jobs}/retry{query}", data={"job_ids": ticked}, follow_redirects=False)
    assert led_to(done) == f"{jobs}{query}&changed=2&skipped=0"
    assert [job.id for job in jobs_of(house, state="queued")] == ticked
    done = house.client.post(f"{jobs}/cancel", data={"job_ids": ticked[:1]}, follow_redirects=False)
    assert led_to(done) == f"{jobs}?changed=1&skipped=0"
    said = text_of(house.client.get(f"{jobs}?platform_id=&state=&kind=&campaign_id="))
    assert f"{house.platform_id} 1 0 0 1 0 4" in said  # queued, leased, done, failed, poison, cancelled
    assert "names no job" in text_of(house.client.post(f"{jobs}/retry"), 422)
    assert "no kind of failure" in text_of(house.client.post(f"{address}/retry", data={"kind": "x"}), 422)
    text_of(house.client.post(f"{HOME}/campaigns/99/retry", data={"kind": ""}), 404)


@pytest.mark.sqlite
def test_lists_come_in_pages_the_newest_first(house: Any) -> None:
    house.add_campaign(count=60)
    first = house.client.get(f"{HOME}/jobs?state=queued").text
    older = re.search(r'href="([^"]*before=\d+[^"]*)"', first)
    assert older
    second = house.client.get(older[1].replace("&amp;", "&")).text
    numbers = [int(number) for page in (first, second) for number in re.findall(r'<th scope="row">(\d+)</th>', page)]
    assert numbers == list(range(60, 0, -1))
    assert 'rel="next"' not in second
    assert "Newest" in second
