"""A database for ``benchmarks/million.py``, filled as a farm would have, in the schema before totals were kept."""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic import command

from leti.core.codec import to_json
from leti.core.device import Device, Platform
from leti.core.measurement import Measurement, Pass, Recipe
from leti.core.prediction import Metrics
from leti.generator.reference import reference_spec
from leti.service.catalogue import name_network, read_networks
from leti.service.database import Database, alembic_config
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
