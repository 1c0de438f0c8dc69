"""The topology of docker-compose.yml under deaths: replicas and a worker are killed while jobs run and predictors are
trained, one replica is started anew in order, a backup is made and restored; nothing is lost, and nothing done twice.

No container engine runs here: the same commands are started as plain processes.
"""

from __future__ import annotations

import re
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

for module, extra in (
    ("ai_edge_litert", "agent"),
    ("fastapi", "service"),
    ("psycopg", "postgres"),
    ("prometheus_client", "service"),
    ("xgboost", "boosting"),
):
    pytest.importorskip(module, reason=f"needs leti[{extra}]")

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from leti.client import LatencyClient
from leti.core.access import TokenRequest
from leti.core.codec import to_json
from leti.core.errors import NotAuthenticated
from leti.core.farm import CampaignRequest, Lease, LeaseRequest, Sample
from leti.core.queries import PredictionItem, PredictionRequest
from leti.core.spec import NetworkConfig
from leti.core.training import TrainingRequest
from leti.generator.spaces import get_space
from leti.service.gate.authentication import VERDICT_S
from leti.service.store.events import LOST

pytestmark = pytest.mark.timeout(900)  # on a busy machine; a minute and a half on a free one

NETWORKS, REPEATS, SHARE = 30, 2, 0.2
JOBS = NETWORKS + round(SHARE * NETWORKS) * (REPEATS - 1)
SMALL = NetworkConfig(modules_per_stack=1)
HOLDOUT = 0.1
KINDS = ("flops", "linear", "lookup_table", "xgboost", "held")
A_FOLDER_GREW = r"tar: (\./)?[a-z/]*: file changed as we read it"
"""Artifacts came while they were copied: nothing that the database's copy, made before, speaks of."""

OPTIONS = {"agent": ("--backend", "litert")}
"""One of the runtimes that the agent finds."""

UNSEEN, UNASKED = (
    [spec.to_json() for spec in get_space("nasbench201").sample(12, seed, NetworkConfig(modules_per_stack=2))]
    for seed in (1, 2)
)
"""Networks of a size that is never measured."""

WAIT_S = 400.0


@pytest.fixture
def topology(compose: dict[str, Any], database: str, tmp_path: Path, topology_of: Any) -> Iterator[Any]:
    made = topology_of(compose, tmp_path / "house", {"database_url": database}, {}, OPTIONS)
    yield made
    made.close()


@pytest.fixture
def restored(
    compose: dict[str, Any],
    database: str,
    new_database: Callable[[], AbstractContextManager[str]],
    tmp_path: Path,
    topology_of: Any,
    postgresql_tool: Callable[[str], str],
) -> Callable[..., Any]:
    """Back a topology up while it measures, as docs/operations.md says, and serve what was restored from that."""

    @contextmanager
    def restore(topology: Any, admin: LatencyClient, books: Books, platform_id: str) -> Iterator[Any]:
        more = admin.create_campaign(
            CampaignRequest("meanwhile", platform_id, (Sample("nasbench201", 10, 7, SMALL),), repeats=1)
        )
        until("an agent measures", lambda: admin.campaign(more.id).done)
        before = books.count("measurements")
        dump, tar = tmp_path / "leti.dump", tmp_path / "home.tar"
        run(postgresql_tool("pg_dump"), "--format=custom", f"--file={dump}", database)
        run("tar", "-cf", str(tar), "-C", str(topology.volume("home")), ".", harmless=A_FOLDER_GREW)
        left = (now := admin.campaign(more.id)).jobs - now.done
        topology.tell(f"backed up from {before} measurements on, {left} jobs were not done yet")
        with new_database() as there:
            copy = topology_of(compose, tmp_path / "copy", {"database_url": there}, {}, OPTIONS)
            copy.volume("home").mkdir()
            run(postgresql_tool("pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={there}", str(dump))
            run("tar", "-xf", str(tar), "-C", str(copy.volume("home")))
            assert "nothing to do" in copy.run("migrate")
            found = Books(there)
            assert before <= found.count("measurements") <= books.count("measurements")
            assert found.count("jobs WHERE state = 'done'") == found.count("measurements WHERE NOT late")
            try:
                copy.start("web-1")
                yield copy
            finally:
                copy.close()
        await_done(admin, more.id)

    return restore


def run(*words: str, harmless: str = "(?!)") -> None:
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    said = [line for line in ran.stderr.splitlines() if not re.fullmatch(harmless, line)]
    assert ran.returncode == 0 or (ran.returncode == 1 and not said), f"{words[0]}: {ran.stderr}"


class Books:
    """What the database itself says."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    def let_holds_run_out(self) -> None:
        """Have it be a minute later for whoever holds a task."""
        with psycopg.connect(self._url) as connection:
            connection.execute("UPDATE tasks SET expires_at = 0 WHERE state = 'running'")

    def count(self, statement: str) -> int:
        return int(self.rows(f"SELECT count(*) FROM {statement}")[0][0])


def until(what: str, found: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """Return what is found, once it is."""
    deadline = time.monotonic() + wait_s
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {wait_s:g} s: {what}"
        time.sleep(0.05)
    return result


def sampled(name: str, platform_id: str, count: int, *, repeats: int = 1) -> CampaignRequest:
    """Return a campaign of networks that are of no other one's name."""
    sample = Sample("nasbench201", count, zlib.crc32(name.encode()), SMALL)
    return CampaignRequest(name, platform_id, (sample,), repeats=repeats, repeat_share=SHARE)


def answers(client: LatencyClient, platform_id: str, networks: Any = UNSEEN) -> tuple[PredictionItem, ...]:
    return client.predict(PredictionRequest((platform_id,), networks)).only()


def test_nothing_is_lost_and_nothing_done_twice(hold: Path, topology: Any, database: str, restored: Any) -> None:
    books = Books(database)
    tokens = begin(topology)
    with (
        topology.client("proxy", tokens["admin"]) as admin,
        topology.client("web-1", tokens["admin"]) as one,
        topology.client("web-2", tokens["admin"]) as two,
        topology.client("proxy", tokens["client"]) as user,
        topology.asking(user) as asking,
    ):
        (platform,) = until("the agent tells its platform", admin.platforms)
        measure(topology, admin, books, platform.id, asking)
        train(topology, admin, books, platform.id, hold)
        asking.question = lambda: answers(user, platform.id)
        serve_alike(topology, one, two, platform.id)
        with restored(topology, admin, books, platform.id) as copy, copy.client("web-1", tokens["admin"]) as client:
            assert answers(client, platform.id) == answers(one, platform.id)
            topology.tell("a service on the restored copy answers the same")
            copy.stop("web-1")
        keep_out(topology, admin)
        revoke(topology, one, tokens)
        start_anew(topology, two, books, platform.id)
        topology.stop("agent")
        last = wait_across(topology, tokens, platform.id)
        agree(topology, tokens["admin"], last)
        topology.tell(f"{asking.answered} requests of a user all the while: {len(asking.refused)} refused")
        assert not asking.refused
        assert asking.answered > 50
    topology.stop("worker", "web-1", "web-2", "proxy")


def begin(topology: Any) -> dict[str, str]:
    """Start everything in the order of the file, as docs/operations.md says; return tokens by their roles."""
    proxy = "Caddy, with deploy/Caddyfile" if topology.has_caddy else "the tests' stand-in: no Caddy is installed"
    topology.tell(f"PostgreSQL is up; the proxy is {proxy}")
    topology.tell(f"migrate: {topology.run('migrate')}")
    with ThreadPoolExecutor(2) as pool:
        roles = ("admin", "agent")
        made = pool.map(lambda role: topology.run("worker", "token", "create", role, "--role", role), roles)
        tokens: dict[str, str] = dict(zip(roles, made, strict=True))
    topology.write_secret("agent_token", tokens["agent"])
    topology.start("web-1", "web-2", "worker", "proxy")
    with topology.client("proxy", tokens["admin"]) as admin:
        for role in ("client", "viewer"):
            tokens[role] = admin.create_token(TokenRequest(role, role)).token
    topology.start("agent")
    for name in topology.replicas:
        assert httpx.get(f"{topology.url(name)}/readyz", timeout=60).status_code == 200
    assert httpx.get(f"{topology.url('proxy')}/v1/platforms", timeout=60).status_code == 401
    return tokens


def measure(topology: Any, admin: LatencyClient, books: Books, platform_id: str, asking: Any) -> None:
    """Have a campaign measured while a replica is killed, and one started again."""
    campaign = admin.create_campaign(sampled("first", platform_id, NETWORKS, repeats=REPEATS))
    topology.tell(f"a campaign of {campaign.networks} networks, {campaign.jobs} jobs")
    assert campaign.jobs == JOBS
    asking.question = lambda: asking.client.campaign(campaign.id)
    done = "jobs WHERE state = 'done'"
    until("some jobs are done and others lent", lambda: books.count(done) >= 4 and admin.campaign(campaign.id).leased)
    topology.kill("web-1")
    before = books.count(done)
    until("jobs are done without it", lambda: books.count(done) >= before + 4)
    topology.tell(f"{books.count(done)} jobs are done, {books.count(done) - before} of them while one replica was dead")
    topology.start("web-1")
    await_done(admin, campaign.id)
    topology.tell("every job is done")
    check_books(books, JOBS)


def await_done(admin: LatencyClient, campaign_id: int) -> None:
    until("every job is done", lambda: (found := admin.campaign(campaign_id)).done == found.jobs)


def check_books(books: Books, jobs: int) -> None:
    """See that every job was done exactly once."""
    assert books.rows("SELECT state, count(*) FROM jobs GROUP BY state") == [("done", jobs)]
    on_time = "FROM measurements WHERE NOT late"
    assert books.rows(f"SELECT count(*), count(DISTINCT job_id) {on_time}") == [(jobs, jobs)]
    twice = "SELECT job_id, count(*) FROM measurements GROUP BY job_id HAVING count(*) > 1"
    late = books.count("measurements WHERE late")
    assert len(books.rows(twice)) <= late, "the same result was stored twice"
    totals = books.rows("SELECT sum(done), sum(queued + leased + failed + poison + cancelled) FROM campaign_totals")
    assert totals == [(jobs, 0)]
    assert books.count(f"failures WHERE kind <> '{LOST}'") == 0
    lost = books.count("(SELECT DISTINCT lease_id FROM failures) AS leases")
    assert lost <= 1, "more than the replica may have lent that died before it could say so"


def train(topology: Any, admin: LatencyClient, books: Books, platform_id: str, hold: Path) -> None:
    """Have predictors trained, and the worker killed in the middle of it."""
    task = admin.start_training(TrainingRequest(platform_id, KINDS, HOLDOUT, learning_curve=True))
    begun = until("a training has begun", lambda: (found := admin.task(task.id)).progress.total and found)
    assert begun.state == "running"
    topology.tell(f"{begun.worker} is at {begun.progress.stage!r}, {begun.progress.done} of {begun.progress.total}")
    topology.kill("worker")
    hold.unlink()
    books.let_holds_run_out()
    topology.start("worker")
    done = admin.wait_for_task(task.id, timeout_s=WAIT_S)
    topology.tell(f"{done.worker} ends the training: {done.attempts} began it, {done.deaths} died")
    assert (done.state, done.attempts, done.deaths) == ("done", 2, 1)
    assert done.worker != begun.worker
    kinds = Counter(info.kind for info in admin.predictors(platform_id))
    assert kinds == Counter(KINDS), "what the first worker began left nothing behind"
    assert books.count("predictors WHERE active") == books.count("promotions") == 1


def serve_alike(topology: Any, one: LatencyClient, two: LatencyClient, platform_id: str) -> None:
    """See that replicas answer alike, at once also after a promotion at the other one."""
    first = answers(one, platform_id)
    assert {item.source for item in first} == {"predicted"}
    assert first == answers(two, platform_id)
    other = next(info for info in one.predictors(platform_id) if not info.active)
    one.promote(other.id)
    promoted = answers(two, platform_id)
    assert {item.predictor for item in promoted} == {other.kind}
    assert promoted != first
    assert promoted == answers(one, platform_id)
    two.roll_back(platform_id)
    assert answers(one, platform_id) == answers(two, platform_id) == first
    topology.tell(
        f"replicas answer alike: by {first[0].predictor}, by {other.kind} once one promotes it, then as before"
    )


def keep_out(topology: Any, admin: LatencyClient) -> None:
    """See that who tries tokens is told to wait, and nobody else who comes by the same proxy."""
    if not topology.has_caddy:
        return  # the stand-in does not say whose request it is
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=topology.url("proxy"), transport=transport, timeout=60) as stranger:
        headers = {"authorization": "Bearer leti_guessed"}
        told = Counter(stranger.get("/v1/platforms", headers=headers).status_code for _ in range(100))
    assert set(told) == {401, 429}
    new = admin.create_token(TokenRequest("new", "viewer")).token
    with topology.client("proxy", new, retries=0) as client:
        assert all(client.platforms() for _ in range(10))
    topology.tell(
        f"who guesses tokens is answered {told[401]} times 401, then 429; a new user by the same proxy is not"
    )


def revoke(topology: Any, one: LatencyClient, tokens: dict[str, str]) -> None:
    """See that a token that is revoked at one replica is refused at the other as soon as is promised."""
    (viewer,) = [info for info in one.tokens() if info.name == "viewer"]
    with (
        topology.client("web-1", tokens["viewer"]) as at_one,
        topology.client("web-2", tokens["viewer"]) as at_two,
    ):
        assert at_one.platforms() == at_two.platforms()
        one.revoke_token(viewer.id)
        revoked_at = time.monotonic()
        with pytest.raises(NotAuthenticated):
            at_one.platforms()
        asked_at = revoked_at
        while is_known(at_two):
            assert asked_at - revoked_at <= VERDICT_S, "a revoked token lives on"
            time.sleep(0.1)
            asked_at = time.monotonic()
    topology.tell(f"a token revoked at web-1 is refused there at once, by web-2 {asked_at - revoked_at:.1f} s later")


def is_known(client: LatencyClient) -> bool:
    try:
        client.platforms()
    except NotAuthenticated:
        return False
    return True


def start_anew(topology: Any, two: LatencyClient, books: Books, platform_id: str) -> None:
    """Stop one replica in order and start it again, as an upgrade does: what it said last is kept to be scored."""
    said = answers(two, platform_id, UNASKED)
    topology.stop("web-2")
    named = ", ".join(f"'{item.fingerprint}'" for item in said)
    assert books.count(f"predictions WHERE fingerprint IN ({named})") == len(said)
    topology.start("web-2")


def wait_across(topology: Any, tokens: dict[str, str], platform_id: str) -> int:
    """Queue jobs at one replica while an agent waits at the other; return how many there are.

    The request is sent twice, once to each replica, as a client does that hears no answer: it is one campaign.
    """
    request = sampled("last", platform_id, 5)
    headers = {"authorization": f"Bearer {tokens['admin']}", "idempotency-key": "once", "leti-protocol": "4"}
    with topology.client("web-2", tokens["agent"]) as agent, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.lease, LeaseRequest("waiting", platform_id, 8), wait_s=30.0)
        time.sleep(0.5)  # until it waits; where it came too late, it would find the jobs just so
        assert not waiting.done()
        first, again = (
            httpx.post(f"{topology.url(name)}/v1/campaigns", json=to_json(request), headers=headers, timeout=60)
            for name in topology.replicas
        )
        lease: Lease | None = waiting.result()
        assert lease is not None
        agent.release(lease.id, lease.token)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert again.headers["idempotency-replayed"] == "true"
    topology.tell("an agent that waits at web-2 gets the jobs that are queued at web-1; one key, one campaign")
    return len(lease.jobs)


def agree(topology: Any, token: str, queued: int) -> None:
    """See that both replicas report the same farm."""

    def gauges(name: str) -> dict[Any, float]:
        headers = {"authorization": f"Bearer {token}"}
        answer = httpx.get(f"{topology.url(name)}/metrics", headers=headers, timeout=60).raise_for_status()
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name in ("leti_jobs", "leti_leases", "leti_tasks")
        }

    def agreed() -> bool:
        one, two = map(gauges, topology.replicas)
        return (
            one == two and sum(one[key] for key in one if ("state", "queued") in key and "leti_jobs" in key) == queued
        )

    until("both replicas report the same", agreed)
    for name in topology.replicas:
        assert httpx.get(f"{topology.url(name)}/readyz", timeout=60).status_code == 200
    if topology.has_caddy:
        assert httpx.get(f"{topology.url('proxy')}/metrics", timeout=60).status_code == 404, (
            "metrics are each replica's own"
        )
    topology.tell(f"/readyz of both is 200, /metrics of both say the same: {queued} jobs wait")
