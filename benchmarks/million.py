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
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from alembic import command
from chaos import database, free_port

from leti.core.codec import to_json
from leti.core.device import Device, Platform
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.prediction import Metrics
from leti.generator.reference import reference_spec
from leti.service.catalogue import name_network, read_networks
from leti.service.database import Database, alembic_config
from leti.service.settings import Settings
from leti.service.tables import (
    campaigns,
    dataset_items,
    datasets,
    devices,
    holdout_points,
    jobs,
    leases,
    measurements,
    networks,
    platforms,
    predictions,
    predictors,
    reference_latencies,
)

BEFORE = "0007"
"""The schema that is filled."""

REAL = 2_000
"""Networks that can be asked for by their architecture; the others are fingerprints that no graph has."""

OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
PER_CAMPAIGN = 5_000
REFERENCE_MS = 1.4
ASKED_ONE_IN = 5
"""Of the networks measured last, how many there are for each whose latency was predicted before."""

PART = 10_000
LIMIT_MS = 200.0
TIMES = 15


@dataclass(slots=True)
class Filled:
    """What is in the database, and what is asked for."""

    measurements: int
    networks: int
    campaigns: int
    platform_ids: list[str]
    architectures: list[str]
    fingerprints: list[str]
    holdout: int = 10_000
    filled_s: float = 0.0
    migrated_s: float = 0.0


def fill(made: Database, count: int, platform_count: int) -> Filled:
    """Fill an empty database; return what is in it."""
    started = time.monotonic()
    with made.writing() as connection:
        command.upgrade(alembic_config(connection), BEFORE)
    chance = random.Random(0)
    each = count // platform_count
    per_campaign = min(PER_CAMPAIGN, each)
    fresh = per_campaign * 4 // 5  # of which a quarter is measured a second time
    campaigns_each = each // per_campaign
    reference = name_network(reference_spec(), "execute").network.fingerprint
    texts = [architecture(chance) for _ in range(min(REAL, fresh))]
    known = read_networks(tuple(texts), "execute", "float32", limit=len(texts))
    named = {item.network.fingerprint: (text, item) for text, item in zip(texts, known, strict=True)}
    named.pop(reference, None)
    architectures = [text for text, _ in named.values()]
    real = [item for _, item in named.values()]
    fingerprints = list(named)
    wanted = max(count // 5, campaigns_each * fresh)
    fingerprints += [f"{chance.getrandbits(256):064x}" for _ in range(wanted - len(fingerprints))]
    writer = Writer(made)
    writer.networks(name_network(reference_spec(), "execute"), [reference])
    for item in real:
        writer.networks(item, [item.network.fingerprint])
    writer.networks(real[0], fingerprints[len(real) :])
    filled = Filled(0, wanted, 0, [], architectures, fingerprints)
    for number in range(platform_count):
        platform = Platform(Device(f"device-{number:02d}", "desktop", "soc", 2), "litert", "2.3.0", "xnnpack")
        filled.platform_ids.append(platform.id)
        writer.platform(platform, reference, each)
        start = number * fresh * campaigns_each // 4 if number else 0
        for round_number in range(campaigns_each):
            first = (start + round_number * fresh) % wanted
            chosen = (fingerprints + fingerprints[:fresh])[first : first + fresh]
            writer.campaign(platform.id, reference, f"campaign-{round_number}", chosen, per_campaign - fresh, chance)
            filled.campaigns += 1
            filled.measurements += per_campaign
    of_first = fingerprints[: campaigns_each * fresh]
    filled.holdout = writer.predictor(filled.platform_ids[0], of_first, filled.holdout)
    writer.close()
    filled.filled_s = time.monotonic() - started
    started = time.monotonic()
    made.upgrade()
    filled.migrated_s = time.monotonic() - started
    return filled


def architecture(chance: random.Random) -> str:
    """Return a network of NAS-Bench-201, drawn at random."""
    return "+".join(
        "|" + "".join(f"{chance.choice(OPERATIONS)}~{source}|" for source in range(node)) for node in range(1, 4)
    )


def latency_of(fingerprint: str) -> float:
    """Return what a network takes, in ms."""
    return REFERENCE_MS * (0.2 + int(fingerprint[:4], 16) / 20_000)


def predicted_of(fingerprint: str) -> dict[str, float]:
    """Return what a predictor says of a network: some percent too much or too little."""
    said_ms = latency_of(fingerprint) * (0.96 + int(fingerprint[4:6], 16) / 2_550)
    return {"latency_ms": said_ms, "low_ms": said_ms * 0.95, "high_ms": said_ms * 1.05}


class Writer:
    """Writes rows in large parts, numbering them itself."""

    def __init__(self, made: Database) -> None:
        self._made = made
        self._rows: dict[sa.Table, list[dict[str, Any]]] = {}
        self._ids: dict[sa.Table, int] = {}
        self._graphs: dict[str, bytes] = {}
        self._at = 1_700_000_000.0

    def networks(self, like: Any, fingerprints: Sequence[str]) -> None:
        """Write networks that are all like one."""
        graph = zlib.compress(json.dumps(like.graph.to_json()).encode())
        said = {name: value for name, value in to_json(like.network).items() if name in networks.c}
        for fingerprint in fingerprints:
            self._add(networks, said | {"fingerprint": fingerprint, "graph": graph, "created_at": self._at})

    def platform(self, platform: Platform, reference: str, count: int) -> None:
        """Write a platform and its device."""
        name, at = platform.device.name, self._at
        said = {"reported_state": "available", "reported_reason": "", "reported_at": at, "idle_since": at}
        counts = {"failures_in_a_row": 0, "row_after": 0, "created_at": at, "last_heartbeat": at}
        self._add(devices, {"name": name, "device": to_json(platform.device)} | said | counts)
        row = {"id": platform.id, "device": name, "platform": to_json(platform), "reference": reference}
        self._add(platforms, row | {"last_token": 1, "created_at": at})
        pooled = {"version": 1, "latency_ms": REFERENCE_MS, "measurements": count, "created_at": at}
        self._add(reference_latencies, {"platform_id": platform.id, "reference": reference} | pooled, numbered=True)

    def campaign(
        self,
        platform_id: str,
        reference: str,
        name: str,
        chosen: Sequence[str],
        repeated: int,
        chance: random.Random,
    ) -> None:
        """Write a campaign that is done: its jobs, one lease, and its measurements."""
        campaign = {"platform_id": platform_id, "name": name, "zero": "execute", "request": {}, "digest": "0" * 64}
        told = {"networks": len(chosen), "priority": 0, "created_at": self._at}
        campaign_id = self._add(campaigns, campaign | told, numbered=True)
        lease = {"platform_id": platform_id, "agent": "agent", "token": campaign_id, "state": "released"}
        lease_id = self._add(leases, lease | {"expires_at": self._at, "created_at": self._at}, numbered=True)
        sample = Measurement("0" * 64, platform_id, reference, passes(chance), Recipe("0.1.0", "2.3.0", "ab" * 32))
        packed = zlib.compress(json.dumps(to_json(sample)).encode())
        work = [(0, fingerprint) for fingerprint in chosen] + [(1, fingerprint) for fingerprint in chosen[:repeated]]
        for position, (repeat, fingerprint) in enumerate(work):
            self._at += 0.05
            ratio = latency_of(fingerprint) / REFERENCE_MS * chance.uniform(0.97, 1.03)
            of_both = {
                "campaign_id": campaign_id,
                "platform_id": platform_id,
                "lease_id": lease_id,
                "fingerprint": fingerprint,
                "repeat": repeat,
                "noisy": False,
            }
            ended = {"position": position, "state": "done", "attempts": 1, "deaths": 0, "priority": 0, "profile": False}
            job_id = self._add(jobs, of_both | ended, numbered=True)
            found = {
                "job_id": job_id,
                "reference": reference,
                "ratio": ratio,
                "reference_ms": REFERENCE_MS * chance.uniform(0.98, 1.02),
                "median_ms": REFERENCE_MS * ratio,
                "min_ms": 1.3 * ratio,
                "late": False,
                "measurement": packed,
                "created_at": self._at,
            }
            self._add(measurements, of_both | found, numbered=True)

    def predictor(self, platform_id: str, measured: Sequence[str], most: int) -> int:
        """Write an active predictor of the networks measured first; return how many are in its holdout.

        Of those measured last, one in :data:`ASKED_ONE_IN` was asked for before, and its prediction kept.
        """
        chosen = list(dict.fromkeys(measured[:most]))
        reference_id = 1
        values = {"platform_id": platform_id, "reference_latency_id": reference_id, "holdout_share": 0.25, "seed": 0}
        dataset_id = self._add(datasets, values | {"created_at": self._at}, numbered=True)
        metrics = Metrics(30_000, len(chosen), 0.35, 0.86, 0.97, 0.015, 0.021, 0.99, 0.99, 0.93, 0.9, 0.92, 1.8, 41.0)
        told = {"kind": "flops", "version": 1, "active": True, "artifact_sha256": "ab" * 32}
        judged = {"metrics": to_json(metrics), "cross_validation_mdape": 0.02, "created_at": self._at}
        key = {"platform_id": platform_id, "dataset_id": dataset_id}
        predictor_id = self._add(predictors, key | told | judged, numbered=True)
        for fingerprint in chosen:
            found = {"predictor_id": predictor_id, "fingerprint": fingerprint, "measured_ms": latency_of(fingerprint)}
            self._add(holdout_points, found | predicted_of(fingerprint))
            item = {"part": "test", "ratio": latency_of(fingerprint) / REFERENCE_MS, "count": 1, "spread": 0.0}
            self._add(
                dataset_items, {"dataset_id": dataset_id, "fingerprint": fingerprint, "group": fingerprint} | item
            )
        for fingerprint in measured[-most::ASKED_ONE_IN]:
            kept = {"predictor_id": predictor_id, "fingerprint": fingerprint, "coverage": 0.9, "created_at": 1.0}
            self._add(predictions, kept | predicted_of(fingerprint))
        return len(chosen)

    def _add(self, table: sa.Table, row: dict[str, Any], *, numbered: bool = False) -> int:
        if numbered:
            self._ids[table] = self._ids.get(table, 0) + 1
            row["id"] = self._ids[table]
        self._rows.setdefault(table, []).append(row)
        if len(self._rows[table]) >= PART:
            self._write()
        return self._ids.get(table, 0)

    def _write(self) -> None:
        with self._made.writing() as connection:
            for table in (t for t in measurements.metadata.sorted_tables if self._rows.get(t)):
                names = list(self._rows[table][0])
                plain = sa.table(
                    table.name, *(sa.column(n, None if _packed(table.c[n]) else table.c[n].type) for n in names)
                )
                connection.execute(sa.insert(plain), self._rows[table])
                self._rows[table] = []

    def close(self) -> None:
        """Write what is left, and let the database number on from there."""
        self._write()
        with self._made.writing() as connection:
            if not self._made.is_sqlite:
                for table in self._ids:
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    connection.execute(sa.text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))
        if not self._made.is_sqlite:
            with self._made.writing() as connection:
                connection.execute(sa.text("ANALYZE"))


def _packed(column: sa.Column[Any]) -> bool:
    return type(column.type).__name__ == "PackedJson"


def passes(chance: random.Random) -> tuple[Pass, ...]:
    """Return the passes of a measurement as agents make them."""
    return tuple(
        Pass(tuple(chance.uniform(0.7, 0.9) for _ in range(2)), tuple(chance.uniform(1.3, 1.5) for _ in range(2)))
        for _ in range(12)
    )


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
        print(
            f"{options.database}: {size}, {len(filled.platform_ids)} platforms, {filled.campaigns} campaigns; filled in {filled.filled_s:.0f} s,"
        )
        print(f"migration {BEFORE} to the newest in {filled.migrated_s:.1f} s")
        with serving(home, database_url) as url:
            found = ask(url, filled, options.times)
    print(f"{'':<58} {'p50 ms':>8} {'max ms':>8} {'bytes':>10}")
    print("\n".join(one.line for one in found))
    return int(any(one.max_ms > LIMIT_MS for one in found))


if __name__ == "__main__":
    sys.exit(main())
