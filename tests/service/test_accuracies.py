"""Accuracies of networks: put, put again, listed, refused; the migration that keeps them."""

from __future__ import annotations

import pytest

from leti.core.wire import AccuracyRequest
from leti.service.store.accuracies import MOST_TASKS

DATABASES = ("sqlite", "postgresql")


@pytest.fixture
def network(house):
    return house.post("/networks", {"networks": [house.architecture]}).json()[0]["fingerprint"]


def put(house, fingerprint, task, body):
    return house.client.put(f"/v1/networks/{fingerprint}/accuracies/{task}", json=body)


def test_an_accuracy_is_kept_and_the_same_said_again_changes_nothing(house, network):
    first = put(house, network, "cifar10-valid", {"accuracy": 0.9, "remark": "12 epochs"})
    assert first.status_code == 200, first.text
    assert first.json()["accuracy"] == 0.9
    house.clock.now += 60
    assert put(house, network, "cifar10-valid", {"accuracy": 0.9, "remark": "12 epochs"}).json() == first.json()
    later = put(house, network, "cifar10-valid", {"accuracy": 0.91}).json()
    assert (later["accuracy"], later["remark"]) == (0.91, "")
    assert later["updated_at"] > first.json()["updated_at"]
    assert put(house, network, "cifar100", {"accuracy": 0}).json()["accuracy"] == 0.0
    listed = house.get(f"/networks/{network}/accuracies").json()
    assert [one["task"] for one in listed] == ["cifar10-valid", "cifar100"]
    assert listed[0] == later


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"accuracy": 93}, "accuracy"),
        ({"accuracy": -0.1}, "accuracy"),
        ({"accuracy": "0.9"}, "accuracy"),
        ({}, "accuracy"),
        ({"accuracy": 0.9, "remark": "x" * 1_001}, "remark"),
        ({"accuracy": 0.9, "epochs": 12}, "epochs"),
    ],
)
def test_what_is_wrong_is_named(house, network, problem_of, body, field):
    said = problem_of(put(house, network, "cifar10", body), 422, "invalid-input")
    assert field in said["field"]
    assert house.get(f"/networks/{network}/accuracies").json() == []


@pytest.mark.sqlite
def test_tasks_have_plain_names_and_networks_are_known(house, network, problem_of):
    assert "task" in problem_of(put(house, network, "CIFAR 10", {"accuracy": 0.9}), 422)["field"]
    assert problem_of(put(house, "0" * 64, "cifar10", {"accuracy": 0.9}), 404)["field"] == "fingerprint"
    assert problem_of(house.get(f"/networks/{'0' * 64}/accuracies"), 404)["field"] == "fingerprint"


@pytest.mark.sqlite
def test_a_network_has_so_many_tasks_and_no_more(house, network, problem_of):
    for number in range(MOST_TASKS):
        house.store.accuracies.put(network, f"task-{number}", AccuracyRequest(0.5))
    assert problem_of(put(house, network, "one-more", {"accuracy": 0.5}), 422)["field"] == "task"
    assert put(house, network, "task-7", {"accuracy": 0.6}).status_code == 200


@pytest.mark.sqlite
def test_clients_put_and_viewers_read(guarded, problem_of):
    admin, client, viewer = (guarded.bearer(role) for role in ("admin", "client", "viewer"))
    made = guarded.client.post("/v1/networks", json={"networks": [guarded.architecture]}, headers=admin).json()
    path = f"/v1/networks/{made[0]['fingerprint']}/accuracies"
    problem_of(guarded.client.put(f"{path}/cifar10", json={"accuracy": 0.9}, headers=viewer), 403)
    assert guarded.client.put(f"{path}/cifar10", json={"accuracy": 0.9}, headers=client).status_code == 200
    assert [one["task"] for one in guarded.client.get(path, headers=viewer).json()] == ["cifar10"]
