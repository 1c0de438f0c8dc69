"""A million measurements: how long lists, look-ups and the accuracy page take over a database that is full.

A database is filled as a farm would have filled it: platforms of a device each, networks measured in campaigns, one in
four of them twice, and a predictor with its holdout and its kept predictions. It is filled in the schema before truths
and totals were kept, so that the migration which sums them up is timed as well. Then a real service is asked, over a
socket, request after request.

    python benchmarks/million.py                                   # 1,000,000 measurements in SQLite
    python benchmarks/million.py --database postgresql             # in a PostgreSQL of its own
    python benchmarks/million.py --measurements 100000 --home full # keep the home, and use it again
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from chaos import database, free_port
from million_fill import BEFORE, Filled, fill

from leti.service.database import Database
from leti.service.settings import Settings

LIMIT_MS = 200.0
TIMES = 15


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one kind of request took, in ms, and how many bytes its answer has."""

    name: str
    p50_ms: float
    max_ms: float
    bytes: int

    @property
    def line(self) -> str:
        """A line of the table."""
        over = "  over the limit" if self.max_ms > LIMIT_MS else ""
        return f"{self.name:<58} {self.p50_ms:8.1f} {self.max_ms:8.1f} {self.bytes:>10,}{over}"


def ask(url: str, filled: Filled, times: int) -> list[Timing]:
    """Ask for everything in turn; return how long each took."""
    p0, deep = filled.platform_ids[0], filled.measurements - 500
    one = filled.fingerprints[7]
    last_campaign = filled.campaigns
    gets = {
        "health (an empty answer)": "/v1/health",
        "platforms, the whole list": "/v1/platforms",
        "a platform": f"/v1/platforms/{p0}",
        "devices, the whole list": "/v1/devices",
        "campaigns, first page": "/v1/campaigns",
        "campaigns, a deep page": f"/v1/campaigns?cursor={max(0, last_campaign - 50)}",
        "a campaign": f"/v1/campaigns/{last_campaign}",
        "failures of a campaign": f"/v1/campaigns/{last_campaign}/failures",
        "measurements, first page": "/v1/measurements",
        "measurements, first page of 1,000": "/v1/measurements?limit=1000",
        "measurements, a deep page": f"/v1/measurements?cursor={deep}",
        "measurements of the last platform, first page": f"/v1/measurements?platform_id={filled.platform_ids[-1]}",
        "measurements of the first platform, past its end": f"/v1/measurements?platform_id={p0}&cursor={deep}",
        "measurements of a campaign": f"/v1/measurements?campaign_id={last_campaign}",
        "measurements of a network": f"/v1/measurements?fingerprint={one}",
        "measurements of a network by 8 digits": f"/v1/measurements?fingerprint={one[:8]}",
        "measurements of a network on a platform": f"/v1/measurements?fingerprint={one}&platform_id={p0}",
        "a measurement": f"/v1/measurements/{deep}",
        "jobs, first page": "/v1/jobs",
        "jobs, a deep page": f"/v1/jobs?cursor={deep}",
        "jobs that failed (none did)": "/v1/jobs?state=failed",
        "jobs that failed on a platform (none did)": f"/v1/jobs?state=failed&platform_id={p0}",
        "jobs that failed in a campaign (none did)": f"/v1/jobs?state=failed&campaign_id={last_campaign}",
        "jobs of the last platform, first page": f"/v1/jobs?platform_id={filled.platform_ids[-1]}",
        "jobs of a network by 8 digits": f"/v1/jobs?fingerprint={one[:8]}",
        "failures, counted by network": "/v1/failures?by=network",
        "a network": f"/v1/networks/{one}",
        "predictors": f"/v1/predictors?platform_id={p0}",
        f"accuracy: holdout of {filled.holdout:,} networks": "/v1/predictors/1/holdout",
        "accuracy: drift": f"/v1/platforms/{p0}/drift?days=36500",
        "datasets": "/v1/datasets",
        "tasks": "/v1/tasks",
    }
    posts = {
        "predictions: 1 measured network": predictions_of(p0, filled.architectures[:1]),
        "predictions: 1,000 measured networks": predictions_of(p0, filled.architectures[:1000]),
        "predictions: 1,000 measured fingerprints, in columns": {
            "platform_ids": [p0],
            "networks": filled.fingerprints[:1000],
            "form": "columns",
        },
    }
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        found = [timed(name, lambda path=path: client.get(path), times) for name, path in gets.items()]
        found += [
            timed(n, lambda body=body: client.post("/v1/predictions", json=body), times) for n, body in posts.items()
        ]
        found.append(timed("an agent asks, and there is nothing", lambda: claim(client, p0), times))
    return [one for one in found if one is not None]


def predictions_of(platform_id: str, architectures: Sequence[str]) -> dict[str, Any]:
    """Return a request for predictions."""
    return {"platform_ids": [platform_id], "networks": list(architectures)}


def claim(client: httpx.Client, platform_id: str) -> httpx.Response:
    """Ask for jobs."""
    return client.post("/v1/leases", json={"agent": "agent", "platform_id": platform_id})


def timed(name: str, call: Callable[[], httpx.Response], times: int) -> Timing | None:
    """Call so many times, once more before; tell of answers that are none."""
    answer = call()
    if answer.status_code >= 400:
        print(f"{name}: {answer.status_code} {answer.text[:300]}", file=sys.stderr)
        return None
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - started))
    return Timing(name, statistics.median(took), max(took), len(answer.content))


@contextmanager
def serving(home: Path, database_url: str, *, workers: int = 0) -> Iterator[str]:
    """Give the URL of a service in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "leti.cli", "serve", "--no-auth", "--home", str(home), "--port", str(port)]
    command += ["--workers", str(workers), *(["--database-url", database_url] if database_url else [])]
    with (home / "service.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                try:
                    if httpx.get(f"{url}/v1/health", trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def main() -> int:
    """Fill, ask, print; return 1 where something took longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=1_000_000)
    parser.add_argument("--platforms", type=int, default=20)
    parser.add_argument("--times", type=int, default=TIMES, help="how often each is asked")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--home", type=Path, default=None, help="folder to keep; one that is full is used again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leti-million-") as temporary, database(options.database) as database_url:
        home = options.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        known = home / "filled.json"
        if known.exists():
            filled = Filled(**json.loads(known.read_text()))
        else:
            made = Database.named_by(Settings(home, database_url=database_url))
            filled = fill(made, options.measurements, options.platforms)
            made.close()
            if not database_url:
                known.write_text(json.dumps(asdict(filled)))
        size = f"{filled.measurements:,} measurements of {filled.networks:,} networks"
        around = f"{len(filled.platform_ids)} platforms, {filled.campaigns} campaigns"
        print(f"{options.database}: {size}, {around}; filled in {filled.filled_s:.0f} s,")
        print(f"migration {BEFORE} to the newest in {filled.migrated_s:.1f} s")
        with serving(home, database_url) as url:
            found = ask(url, filled, options.times)
    print(f"{'':<58} {'p50 ms':>8} {'max ms':>8} {'bytes':>10}")
    print("\n".join(one.line for one in found))
    return int(any(one.max_ms > LIMIT_MS for one in found))


if __name__ == "__main__":
    sys.exit(main())
