"""Entity tags: what has not changed is not sent again."""

from __future__ import annotations

import pytest

DATABASES = ("sqlite",)


def tag_of(answer, *, weak):
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "private, no-cache"
    tag = answer.headers["etag"]
    assert tag.startswith("W/") == weak
    return tag


@pytest.fixture
def measured(house):
    house.add_campaign(count=2)
    house.measure_all()
    return house


def test_what_is_known_is_answered_without_a_body_until_it_changes(measured):
    fingerprint = measured.get("/measurements").json()["items"][0]["fingerprint"]
    paths = {
        f"/networks/{fingerprint}": False,
        f"/networks/{fingerprint}/model": False,
        "/measurements/1": False,
        "/platforms": True,
        f"/platforms/{measured.platform_id}": True,
        "/campaigns": True,
        "/campaigns/1": True,
        "/devices": True,
    }
    tags = {}
    for path, weak in paths.items():
        first = measured.get(path)
        tags[path] = tag_of(first, weak=weak)
        for given in (tags[path], f'"other", {tags[path].removeprefix("W/")}', "*"):
            again = measured.client.get(f"/v1{path}", headers={"if-none-match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tags[path]), path
            assert again.headers["x-request-id"]
            assert "content-type" not in again.headers
        other = measured.client.get(f"/v1{path}", headers={"if-none-match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)
    assert len({tag.removeprefix("W/") for tag in tags.values()}) == len(tags)
    measured.add_campaign("second", count=3, seed=9)
    measured.measure_all()
    for path, weak in paths.items():
        assert (measured.get(path).headers["etag"] != tags[path]) == (weak and path != "/campaigns/1"), path


def test_refusals_and_pages_of_jobs_carry_no_tag(measured):
    for path in ("/networks/" + "0" * 64, "/measurements/99", "/jobs", "/measurements"):
        answer = measured.get(path)
        assert "etag" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


def test_predictors_and_datasets_change_with_what_was_trained(measured):
    measured.add_campaign("more", count=36, seed=3)
    measured.measure_all()
    measured.train("linear")
    tags = {path: tag_of(measured.get(path), weak=True) for path in ("/predictors", "/predictors/1", "/datasets")}
    for path, tag in tags.items():
        assert measured.client.get(f"/v1{path}", headers={"if-none-match": tag}).status_code == 304
    measured.add_campaign("again", count=12, seed=4)
    measured.measure_all()
    measured.train("linear")
    assert measured.get("/predictors").headers["etag"] != tags["/predictors"]
    assert measured.get("/datasets").headers["etag"] != tags["/datasets"]
