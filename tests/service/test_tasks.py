"""The queue of tasks: held by one worker at a time, given back when it is gone, ended once; and the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from leti.core.codec import from_json
from leti.core.errors import Conflict, InvalidInput, LeaseLost
from leti.core.tasks import LogPage, Task, TaskPage, TaskProgress
from leti.core.training import EvaluationRequest, TrainingRequest
from leti.service.store import NewLine
from leti.service.store.task_logs import MAX_CHARACTERS, MAX_LINES

DATABASES = ("sqlite", "postgresql")

KINDS = ("train", "evaluate")


def add(house, kind="evaluate", request=EvaluationRequest):
    return house.store.tasks.add(kind, house.platform_id, request(house.platform_id), by="somebody")


def claim(house, worker="worker", kinds=KINDS):
    return house.store.tasks.claim(worker, kinds, alone=("train",))


@pytest.fixture
def platform(house):
    house.add_platform()
    return house


def test_a_task_is_held_reported_and_ended_once(platform):
    tasks = platform.store.tasks
    first, second = add(platform), add(platform)
    assert (first.state, first.created_by, first.request) == (
        "queued",
        "somebody",
        {"platform_id": platform.platform_id, "every": False},
    )
    assert claim(platform, kinds=("train",)) is None
    held = claim(platform)
    assert (held.hold.task_id, held.kind, held.created_by) == (first.id, "evaluate", "somebody")
    other = claim(platform, "another")
    assert other.hold.task_id == second.id
    assert claim(platform) is None
    tasks.report(held.hold, TaskProgress("at it", 1, 3), [NewLine(1.0, "info", "half\nway")])
    running = tasks.get(first.id)
    assert (running.state, running.worker, running.progress) == ("running", "worker", TaskProgress("at it", 1, 3))
    tasks.finish(held.hold, {"all": "well"})
    tasks.finish(held.hold, {"another": "report"})
    done = tasks.get(first.id)
    assert (done.state, done.report, done.attempts, done.deaths) == ("done", {"all": "well"}, 1, 0)
    assert not tasks.renew(held.hold)
    tasks.fail(other.hold, InvalidInput("is wrong", field="x"))
    failed = tasks.get(second.id)
    assert (failed.state, failed.problem.status) == ("failed", 422)
    with pytest.raises(InvalidInput, match="is wrong"):
        raise failed.problem.error()
    with pytest.raises(Conflict):
        tasks.cancel(first.id, by="")
    assert [line.message for line in tasks.log(first.id, after=0, limit=9).items] == ["begun by worker", "half way"]


def test_what_a_silent_worker_held_is_anothers_and_in_the_end_fails(platform):
    tasks = platform.store.tasks
    task = add(platform)
    lost = claim(platform)
    platform.clock.now += platform.settings.lease_s - 1
    assert tasks.renew(lost.hold)
    platform.clock.now += platform.settings.lease_s - 1
    assert claim(platform) is None
    platform.clock.now += 1
    again = claim(platform, "another")
    assert again.hold.task_id == task.id
    assert not tasks.renew(lost.hold)
    for call in (tasks.finish, tasks.fail):
        with pytest.raises(LeaseLost):
            call(lost.hold, Conflict("late"))
    with pytest.raises(LeaseLost):
        tasks.report(lost.hold, TaskProgress("late"))
    tasks.give_back(lost.hold, "late")
    tasks.died(lost.hold, "late")
    assert (tasks.get(task.id).state, tasks.get(task.id).deaths) == ("running", 1)
    tasks.died(again.hold, "its process ended by signal SIGKILL")
    assert tasks.get(task.id).state == "queued"
    tasks.died(claim(platform).hold, "its process ended by signal SIGSEGV")
    ended = tasks.get(task.id)
    assert (ended.state, ended.deaths, ended.problem.title) == ("failed", 3, "Task failed")
    assert "SIGSEGV" in ended.problem.detail
    assert claim(platform) is None


def test_a_clock_that_went_back_holds_nothing_for_ever(platform):
    task = add(platform)
    claim(platform)
    platform.clock.now -= 10**6
    assert claim(platform) is None
    platform.clock.now += platform.settings.lease_s
    assert claim(platform).hold.task_id == task.id


def test_given_back_is_no_death_and_a_cancelled_task_stays_so(platform):
    tasks = platform.store.tasks
    task = add(platform)
    tasks.give_back(claim(platform).hold, "the worker is to stop")
    assert (tasks.get(task.id).state, tasks.get(task.id).deaths) == ("queued", 0)
    held = claim(platform)
    assert tasks.cancel(task.id, by="somebody").state == "cancelled"
    assert tasks.cancel(task.id, by="somebody").state == "cancelled"
    assert not tasks.renew(held.hold)
    with pytest.raises(LeaseLost):
        tasks.finish(held.hold, {})
    assert claim(platform) is None
    assert tasks.log(task.id, after=0, limit=9).items[-1].message == "cancelled by somebody"


def test_many_workers_share_tasks_and_one_trains_a_platform(platform):
    """Whoever claims at the same time: no task twice, and of a platform's trainings one."""
    for _ in range(6):
        add(platform)
        add(platform, "train", TrainingRequest)
    with ThreadPoolExecutor(6) as pool:
        claimed = [one for one in pool.map(lambda i: claim(platform, f"w{i}"), range(24)) if one is not None]
    while (more := claim(platform)) is not None:  # one that found its platform taken at the last moment tries again
        claimed.append(more)
    assert len({one.hold.task_id for one in claimed}) == len(claimed)
    assert sorted(one.kind for one in claimed) == ["evaluate"] * 6 + ["train"]
    training = next(one for one in claimed if one.kind == "train")
    platform.store.tasks.finish(training.hold, {})
    assert claim(platform).kind == "train"


def test_one_that_waits_is_enough(platform):
    tasks = platform.store.tasks
    request = TrainingRequest(platform.platform_id)

    def queue(_):
        return tasks.add_if_none_waits("train", platform.platform_id, request, by="")

    with ThreadPoolExecutor(4) as pool:
        queued = [task for task in pool.map(queue, range(8)) if task is not None]
    assert len(queued) == 1
    assert tasks.newest("train", platform.platform_id, by="").id == queued[0].id
    tasks.finish(claim(platform).hold, {})
    assert queue(0) is not None


def test_a_log_has_an_end(platform):
    tasks = platform.store.tasks
    task = add(platform)
    hold = claim(platform).hold
    line = NewLine(1.0, "info", "é" * (MAX_CHARACTERS + 1))
    for _ in range(3):
        tasks.report(hold, TaskProgress(""), [line] * (MAX_LINES // 2))
    first = from_json(LogPage, platform.get(f"/tasks/{task.id}/logs", limit=600).json())
    last = from_json(LogPage, platform.get(f"/tasks/{task.id}/logs", limit=600, after=first.next).json())
    lines = [*first.items, *last.items]
    assert [one.number for one in lines] == list(range(1, MAX_LINES + 1))
    assert last.next is None
    assert len(lines[1].message) == MAX_CHARACTERS
    assert "the log is full" in lines[-1].message


def test_tasks_are_listed_awaited_and_cancelled(platform, problem_of):
    ids = [add(platform).id for _ in range(3)]
    page = from_json(TaskPage, platform.get("/tasks", limit=2).json())
    assert [task.id for task in page.items] == ids[:2]
    rest = from_json(
        TaskPage, platform.get("/tasks", limit=2, cursor=page.next, state="queued", kind="evaluate").json()
    )
    assert ([task.id for task in rest.items], rest.next) == (ids[2:], None)
    assert platform.get("/tasks", platform_id=platform.platform_id, kind="train").json()["items"] == []
    waited = platform.get(f"/tasks/{ids[0]}", wait_s=0.3)
    assert from_json(Task, waited.json()).state == "queued"
    assert platform.post(f"/tasks/{ids[0]}/cancel").json()["state"] == "cancelled"
    assert from_json(Task, platform.get(f"/tasks/{ids[0]}", wait_s=30).json()).ended
    platform.store.tasks.finish(claim(platform).hold, {})
    problem_of(platform.post(f"/tasks/{ids[1]}/cancel"), 409, "conflict")
    for path in ("/tasks/99", "/tasks/99/logs", "/tasks?platform_id=nowhere"):
        problem_of(platform.client.get(f"/v1{path}"), 404, "not-found")
    problem_of(platform.post("/tasks/99/cancel"), 404, "not-found")
    problem_of(platform.get("/tasks", kind="oracle"), 422, "invalid-input")
    problem_of(platform.get("/tasks", state="lost"), 422, "invalid-input")
    problem_of(platform.get(f"/tasks/{ids[2]}", wait_s=31), 422, "invalid-input")
    problem_of(platform.post("/evaluations", EvaluationRequest(platform.platform_id)), 404, "not-found")
