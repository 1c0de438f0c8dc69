"""Pages: every list that grows is had piece by piece, each item once, whatever comes meanwhile."""

from __future__ import annotations

DATABASES = ("sqlite",)


def walk(house, path, **params):
    items, cursor, pages = [], 0, 0
    while cursor is not None:
        page = house.get(path, cursor=cursor, limit=2, **params).json()
        assert set(page) == {"items", "next"}
        assert len(page["items"]) == 2 or page["next"] is None
        items += page["items"]
        cursor = page["next"]
        pages += 1
    return items, pages


def test_every_list_that_grows_comes_in_pages(house, problem_of):
    for number in range(5):
        house.add_campaign(f"campaign-{number}", count=2, seed=number)
    lease = house.lease(64)
    for job in lease.jobs[:2]:
        house.fail(lease, job, "bad-model")
    for job in lease.jobs[2:]:
        house.report(lease, job)
    house.measure_all()
    campaigns, pages = walk(house, "/campaigns")
    assert ([one["id"] for one in campaigns], pages) == ([1, 2, 3, 4, 5], 3)
    assert walk(house, "/campaigns", platform_id=house.platform_id)[0] == campaigns
    failed = [one for campaign in range(1, 6) for one in walk(house, f"/campaigns/{campaign}/failures")[0]]
    assert [one["kind"] for one in failed] == ["bad-model"] * 2
    jobs, _ = walk(house, "/jobs", platform_id=house.platform_id)
    assert [job["id"] for job in jobs] == list(range(1, 11))
    assert [job["id"] for job in walk(house, "/jobs", state="failed")[0]] == [one["id"] for one in failed]
    measured, _ = walk(house, "/measurements")
    assert len(measured) == len({one["id"] for one in measured}) == 8
    first = measured[0]["fingerprint"]
    assert walk(house, "/measurements", fingerprint=first[:12])[0] == [
        one for one in measured if one["fingerprint"] == first
    ]
    problem_of(house.get("/campaigns", platform_id="nowhere"), 404)
    for params in ({"cursor": -1}, {"limit": 0}, {"limit": 1001}, {"cursor": "x"}):
        problem_of(house.get("/campaigns", **params), 422)
