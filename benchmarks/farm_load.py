"""A farm at full load: fifty agents wait for jobs and hand in a thousand measurements a second while searches ask.

A real service in a process of its own, a farm of agents as clients over real sockets: each has a device and a platform,
waits for jobs at the service, "measures" at once, and posts results in batches, as fast as its share of the rate goes.
Meanwhile a search asks for latencies of a hundred networks, twenty times a second, on a platform whose predictor the
service trained. In the end the books are read: every result that was receipted is in the database, once. What processor
time a measurement cost each process is said as well: it tells more than the rate where a machine has other work to do.

    python benchmarks/farm_load.py                              # 60 s on SQLite
    python benchmarks/farm_load.py --database postgresql --seconds 20 --rate 500
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from chaos import database
from million import serving
from million_fill import architecture, passes

from leti.core.codec import from_json, to_json
from leti.core.device import Device, Platform
from leti.core.farm import CampaignRequest, Job, Lease, LeaseRequest
from leti.core.measurement import Measurement, Recipe
from leti.core.training import TrainingRequest
from leti.service.database import Database
from leti.service.settings import Settings

NETWORKS = 200
"""That every agent measures, as often as the load takes."""

ASKED = 100
"""Networks in one request for predictions."""

ASKS_A_SECOND = 20
WAIT_S = 30
FIRST, FIRST_JOBS = 4, 64
"""Leases, and jobs in each, that are measured before the load, so that a predictor can be trained."""


@dataclass(slots=True)
class Books:
    """What the clients did and were told, and how long each kind of request took, in ms."""

    took_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    receipts: Counter[str] = field(default_factory=Counter)
    stored: list[int] = field(default_factory=list)
    waited: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    behind_s: float = 0.0
    spent_s: dict[str, float] = field(default_factory=dict)
    """Processor seconds of the load, by who spent them."""

    of_load: int = 0
    """Measurements that were stored under load."""


@dataclass(slots=True)
class Farm:
    """Clients of one service, and its books."""

    url: str
    options: argparse.Namespace
    books: Books = field(default_factory=Books)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    tails: list[bytes] = field(default_factory=list)
    networks: tuple[str, ...] = ()

    async def post(self, client: httpx.AsyncClient, kind: str, path: str, body: Any, **params: Any) -> httpx.Response:
        """Post, and note how long it took."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        started = time.perf_counter()
        answer = await client.post(path, content=content, params=params, headers={"content-type": "application/json"})
        self.books.took_ms[kind].append(1000 * (time.perf_counter() - started))
        if answer.status_code >= 400:
            self.books.errors[f"{kind} {answer.status_code}"] += 1
            raise RuntimeError(f"{kind}: {answer.status_code} {answer.text[:500]}")
        return answer

    async def plan(self, client: httpx.AsyncClient, platform: Platform, number: int, repeats: int) -> None:
        """Make a platform known and queue its campaign."""
        await self.post(client, "plan: platform", "/v1/platforms", to_json(platform))
        request = CampaignRequest(f"load-{number}", platform.id, (), self.networks, repeats=repeats, repeat_share=1.0)
        await self.post(client, "plan: campaign", "/v1/campaigns", to_json(request))

    async def agent(self, number: int, platform: Platform, until_s: float) -> None:
        """Wait for jobs, hand in what was measured, a share of the rate a second, until the time is over."""
        pace_s = self.options.agents / self.options.rate
        due_s = time.monotonic() + pace_s * self.options.batch * number / self.options.agents
        async with httpx.AsyncClient(base_url=self.url, timeout=120, trust_env=False) as client:
            while time.monotonic() < until_s:
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                request = LeaseRequest(f"agent-{number}", platform.id, self.options.batch)
                wait_s = max(0.0, min(WAIT_S, until_s - time.monotonic()))
                answer = await self.post(client, "lease", "/v1/leases", to_json(request), wait_s=wait_s)
                if answer.status_code == 204:
                    self.books.waited += 1
                    continue
                lease = from_json(Lease, answer.json())
                await self.hand_in(client, lease)
                due_s += pace_s * len(lease.jobs)
                self.books.behind_s = max(self.books.behind_s, time.monotonic() - due_s)

    async def hand_in(self, client: httpx.AsyncClient, lease: Lease) -> None:
        """Post a result for each job, as one batch."""
        body = b'{"results":[' + b",".join(self.result(lease, job) for job in lease.jobs) + b"]}"
        answer = await self.post(client, "results", "/v1/results/batch", body)
        for item in answer.json()["items"]:
            receipt = item["receipt"]
            self.books.receipts[receipt["status"] if receipt else item["problem"]["title"]] += 1
            if receipt and receipt["status"] == "stored":
                self.books.stored.append(receipt["measurement_id"])

    def result(self, lease: Lease, job: Job) -> bytes:
        """Return a result as it travels; its passes are drawn from many that were written before."""
        if not self.tails:
            for _ in range(200):
                made = Measurement(job.fingerprint, "p", lease.reference, passes(self.chance), RECIPE)
                said = to_json(made)
                rest = {k: v for k, v in said.items() if k not in ("fingerprint", "platform_id", "reference")}
                self.tails.append(json.dumps(rest)[1:].encode())
        tail = self.chance.choice(self.tails)
        head = {"fingerprint": job.fingerprint, "platform_id": lease.platform_id, "reference": lease.reference}
        said = {"lease_id": lease.id, "token": lease.token, "job_id": job.id, "repeat": job.repeat}
        measurement = json.dumps(head)[:-1].encode() + b"," + tail
        return json.dumps(said)[:-1].encode() + b',"measurement":' + measurement + b"}"

    async def search(self, platform_id: str, until_s: float) -> None:
        """Ask for latencies of networks that were never asked for."""
        async with httpx.AsyncClient(base_url=self.url, timeout=120, trust_env=False) as client:
            due_s = time.monotonic()
            while time.monotonic() < until_s:
                networks = [architecture(self.chance) for _ in range(ASKED)]
                body = {"platform_ids": [platform_id], "networks": networks, "form": "columns"}
                await self.post(client, "predictions", "/v1/predictions", body)
                due_s += 1 / ASKS_A_SECOND
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))


RECIPE = Recipe("0.1.0", "2.3.0", "ab" * 32, (("passes", 12.0), ("warm_up_s", 0.5)), measured_at="2026-01-31T12:00:00Z")


Spent = Callable[[], dict[str, float]]
"""Tells processor seconds since the start, by who spent them."""


async def load(url: str, options: argparse.Namespace, spent: Spent) -> Books:
    """Plan, train, load; return the books."""
    farm = Farm(url, options)
    farm.networks = tuple(architecture(farm.chance) for _ in range(NETWORKS))
    platforms = [
        Platform(Device(f"box-{n:02d}", "desktop", "soc", 2), "litert", "2.3.0") for n in range(options.agents)
    ]
    wanted = FIRST * FIRST_JOBS + 1.2 * options.rate * options.seconds / options.agents
    repeats = math.ceil(wanted / NETWORKS)
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        for number, platform in enumerate(platforms):
            await farm.plan(client, platform, number, min(repeats, 100))
        await train(farm, client, platforms[0])
        farm.books.took_ms.clear()
        farm.books.waited = 0
        told, stored, before = machine(options), len(farm.books.stored), spent()
        started = time.monotonic()
        until_s = started + options.seconds
        async with asyncio.TaskGroup() as group:
            for number, platform in enumerate(platforms):
                group.create_task(farm.agent(number, platform, until_s))
            if not options.no_search:
                group.create_task(farm.search(platforms[0].id, until_s))
        took_s = time.monotonic() - started
        farm.books.of_load = len(farm.books.stored) - stored
        farm.books.spent_s = {who: after_s - before[who] for who, after_s in spent().items()}
        print(f"{took_s:.1f} s; {len(farm.books.stored)} measurements stored in all; {told}")
    return farm.books


def machine(options: argparse.Namespace) -> str:
    """Return how busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {options.agents} agents"


async def train(farm: Farm, client: httpx.AsyncClient, platform: Platform) -> None:
    """Measure some networks of the first platform, and have its predictor trained."""
    for _ in range(FIRST):
        request = LeaseRequest("first", platform.id, FIRST_JOBS)
        answer = await farm.post(client, "lease", "/v1/leases", to_json(request))
        await farm.hand_in(client, from_json(Lease, answer.json()))
    request = TrainingRequest(platform.id, ("flops",))
    task = (await farm.post(client, "train", "/v1/predictors", to_json(request))).json()
    while task["state"] not in ("done", "failed", "cancelled"):
        await asyncio.sleep(0.5)
        task = (await client.get(f"/v1/tasks/{task['id']}")).json()
    if task["state"] != "done":
        raise RuntimeError(f"the predictor was not trained: {task}")


def audit(made: Database, books: Books) -> list[str]:
    """Return what is wrong with the books: receipts without a measurement, measurements or counts that differ."""
    from sqlalchemy import text

    def one(statement: str) -> int:
        with made.reading() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    faults = []
    kept, jobs_done = (
        one("SELECT COUNT(*) FROM measurements WHERE NOT late"),
        one("SELECT COUNT(*) FROM jobs WHERE state = 'done'"),
    )
    distinct = one("SELECT COUNT(DISTINCT job_id) FROM measurements WHERE NOT late")
    totals = one("SELECT SUM(on_time) FROM platform_totals")
    truths = one("SELECT SUM(count) FROM truths")
    accepted = one("SELECT COUNT(*) FROM measurements WHERE NOT late AND NOT noisy")
    done = one("SELECT SUM(done) FROM campaign_totals")
    with made.reading() as connection:
        known = set(connection.execute(text("SELECT id FROM measurements")).scalars())
    lost = [stored for stored in books.stored if stored not in known]
    told = {"measurements": kept, "jobs done": jobs_done, "distinct jobs": distinct, "totals": totals, "counted": done}
    for name, number in told.items():
        if number != len(books.stored):
            faults.append(f"{name}: {number}, but {len(books.stored)} were receipted")
    if truths != accepted:
        faults.append(f"truths of {truths} measurements, but {accepted} are accepted")
    if lost or len(set(books.stored)) != len(books.stored):
        faults.append(
            f"{len(lost)} receipts name no measurement, {len(books.stored) - len(set(books.stored))} one twice"
        )
    faults += [f"{count} times {status}" for status, count in books.receipts.items() if status != "stored"]
    return faults + [f"{count} times {error}" for error, count in books.errors.items()]


def processors(made: Database) -> Spent:
    """Return what tells the processor time of this process, of the service, and of the database's server."""
    (service,) = psutil.Process().children()
    watched = {"the clients": psutil.Process(), "the service": service}
    if not made.is_sqlite:
        with made.reading() as connection:
            watched["PostgreSQL"] = psutil.Process(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        watched["PostgreSQL"] = watched["PostgreSQL"].parents()[0]

    def spent() -> dict[str, float]:
        return {who: family_s(process) if who == "PostgreSQL" else own_s(process) for who, process in watched.items()}

    return spent


def own_s(process: psutil.Process) -> float:
    """Return the processor time of a process, in s."""
    took = process.cpu_times()
    return float(took.user + took.system)


def family_s(process: psutil.Process) -> float:
    """Return the processor time of a process and of all that it ever started, in s."""
    took = process.cpu_times()
    return own_s(process) + took.children_user + took.children_system + sum(map(own_s, process.children()))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(books: Books, options: argparse.Namespace) -> None:
    """Print how long each kind of request took."""
    print(f"{'':<14} {'requests':>9} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9}")
    for kind, took in sorted(books.took_ms.items()):
        figures = (percentile(took, 0.5), percentile(took, 0.99), max(took))
        print(f"{kind:<14} {len(took):>9} " + " ".join(f"{figure:9.1f}" for figure in figures))
    rate = books.of_load / options.seconds
    print(
        f"{rate:,.0f} measurements a second of {options.rate:,} wanted; at most {max(books.behind_s, 0):.1f} s behind"
    )
    spent = ", ".join(f"{1e6 * s / books.of_load:,.0f} by {who}" for who, s in books.spent_s.items())
    print(f"microseconds of a processor for each: {spent}")


def main() -> int:
    """Run, print the books, and return 1 where they do not balance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--rate", type=int, default=1_000, help="measurements a second, of all agents")
    parser.add_argument("--batch", type=int, default=50, help="jobs in a lease, results in a batch")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--no-search", action="store_true", help="ask for no predictions")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leti-load-") as temporary, database(options.database) as database_url:
        home = Path(temporary)
        with serving(home, database_url, workers=1) as url:
            made = Database.named_by(Settings(home, database_url=database_url))
            books = asyncio.run(load(url, options, processors(made)))
        faults = audit(made, books)
        made.close()
    print(options.database)
    show(books, options)
    print("\n".join(faults) or "nothing lost, nothing twice")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
