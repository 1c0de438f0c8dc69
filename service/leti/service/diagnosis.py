"""Diagnosis: what is wrong with an installation, and what to do about it. Nothing is made, mended or migrated."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Final, Literal, final

from leti.core.errors import LetiError, StorageError
from leti.core.wire import PROTOCOL_VERSION, Health
from leti.service.artifacts import Artifact, ArtifactStore
from leti.service.configuration import Configuration
from leti.service.database import Database
from leti.service.predictor_files import PredictorFiles
from leti.service.readiness import try_writing
from leti.service.settings import Settings
from leti.service.store import Store
from leti.service.store.metrics import FarmState

State = Literal["ok", "warn", "fail"]

LITTLE_SPACE: Final[Mapping[State, int]] = {"fail": 100 * 2**20, "warn": 2 * 2**30}
"""Free bytes below which a disk is short, the gravest first."""

OLDEST: Final[Mapping[str, tuple[int, ...]]] = {"SQLite": (3, 35), "PostgreSQL": (15,)}
CLOCK_S: Final = 2.0
"""Seconds by which two clocks may differ."""

MODEL_FILES: Final = 200
"""Newest model files that are looked for."""

STALE: Final = timedelta(days=30)
"""Age of a token that nobody has used yet from which on it is named."""

WAITING_S: Final = 600.0
"""Seconds that a task may wait for a worker."""


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, how grave it is, and what to do."""

    check: str
    state: State
    found: str
    remedy: str = ""


def diagnose(configure: Callable[[], Configuration], health: Callable[[], Health] | None = None) -> Iterator[Finding]:
    """Yield findings about the installation that ``configure`` describes, and of the service that ``health`` asks.

    What cannot be looked at because something below it is broken is left out.
    """
    try:
        configuration = configure()
    except LetiError as error:
        yield Finding("settings", "fail", f"{error.field}: {error.message}", error.remedy)
    else:
        origins = ", ".join(f"{name} from {origin}" for name, origin in configuration.origins.items())
        yield Finding("settings", "ok", origins or "all defaults")
        yield from _installation(configuration.settings)
    if health is not None:
        yield _service(health)


def _installation(settings: Settings) -> Iterator[Finding]:
    home = _home(settings)
    yield home
    if home.state != "fail":
        yield _artifacts(settings)
    if not settings.database_url and not settings.database_file.exists():
        yield Finding("database", "fail", f"there is no {settings.database_file}", "`leti migrate` makes it")
        return
    try:
        database = Database.named_by(settings)
    except LetiError as error:
        yield Finding("database", "fail", str(error), "see to the setting database_url")
        return
    try:
        found = _database(database, settings)
        yield from found
        if any(one.state == "fail" for one in found):
            return
        store = Store(database, settings)
        yield from _contents(store, settings)
    except LetiError as error:
        yield Finding("contents", "fail", str(error), "see the service's log; `leti migrate` mends an older schema")
    finally:
        database.close()


def _home(settings: Settings) -> Finding:
    home = settings.home
    if not home.is_dir():
        return Finding(
            "home folder", "fail", f"there is no folder {home}", "name it with --home; `leti migrate` makes it"
        )
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding(
            "home folder", "fail", f"{home} cannot be written", f"give it to the service's user: chown {home}"
        )
    free = shutil.disk_usage(home).free
    said = f"{home}, {free / 2**30:.1f} GiB free"
    for state, least in LITTLE_SPACE.items():
        if free < least:
            return Finding("home folder", state, said, "make room, or move it to another disk")
    return Finding("home folder", "ok", said)


def _artifacts(settings: Settings) -> Finding:
    place = settings.artifacts_url or "in the home folder"
    try:
        try_writing(ArtifactStore.open(settings))
    except (LetiError, OSError) as error:
        return Finding("artifacts", "fail", f"{place}: {error}", "see to its permissions, credentials and space")
    return Finding("artifacts", "ok", f"{place}, written and read")


def _database(database: Database, settings: Settings) -> Sequence[Finding]:
    """Return what is to be said of the database itself: it is reached, of a known version, durable, on time."""
    try:
        facts = database.facts()
    except StorageError as error:
        remedy = "see that it runs, that its address is right and its password too: setting database_url"
        if not settings.database_url:
            remedy = f"see to the permissions of {settings.database_file}, or restore a backup: docs/operations.md"
        return [Finding("database", "fail", error.message, remedy)]
    findings = []
    oldest = OLDEST[facts.product]
    version = tuple(int(part) for part in facts.version.split(".")[: len(oldest)])
    state: State = "ok" if version >= oldest else "fail"
    need = f"{facts.product} {'.'.join(map(str, oldest))} or newer is needed" if state == "fail" else ""
    findings.append(Finding("database", state, f"{facts.product} {facts.version}, {facts.answer_ms:.1f} ms", need))
    loose = [f"{name} = {value}" for name, value in facts.settings.items() if value in facts.unsafe]
    safe = ", ".join(f"{name} = {value}" for name, value in facts.settings.items())
    risk = "what was acknowledged may be lost with the power: set it to its default" if loose else ""
    findings.append(Finding("durability", "warn" if loose else "ok", ", ".join(loose) or safe, risk))
    if facts.damage:
        findings.append(Finding("integrity", "fail", facts.damage, "restore a backup: docs/operations.md"))
    if abs(facts.apart_s) > CLOCK_S:
        grave: State = "fail" if abs(facts.apart_s) > settings.lease_s / 2 else "warn"
        said = f"the database's clock is {facts.apart_s:+.1f} s from this machine's"
        findings.append(Finding("clocks", grave, said, "run a time service (chrony, systemd-timesyncd) on both"))
    schema = database.schema()
    said = f"{schema.found or 'none'}, this release needs {schema.needed}"
    older = schema.found is None or schema.found < schema.needed
    remedy = "back up, then `leti migrate`" if older else "install the release that wrote it, or a newer one"
    findings.append(Finding("schema", "ok" if schema.current else "fail", said, "" if schema.current else remedy))
    return findings


def _contents(store: Store, settings: Settings) -> Iterator[Finding]:
    yield from _predictors(store, settings)
    yield _model_files(store, settings)
    yield from _tokens(store, settings)
    yield from _devices(store)
    farm = store.metrics.read()
    yield from _queue(farm, settings)
    yield _workers(farm)
    yield from _tasks(store, farm)


def _predictors(store: Store, settings: Settings) -> Iterator[Finding]:
    files = PredictorFiles(ArtifactStore.open(settings))
    active = [info for info in store.predictors.list(None) if info.active]
    if not active:
        yield Finding("predictors", "warn", "none is active", "measure networks, then `leti train`")
        return
    broken = 0
    for info in active:
        try:
            files.load(info.artifact_sha256)
        except LetiError as error:
            broken += 1
            said = f"{info.kind} {info.version} of {info.platform_id}: {error}"
            yield Finding("predictors", "fail", said, "restore the artifacts, roll back, or train anew: `leti train`")
    if not broken:
        yield Finding("predictors", "ok", f"{len(active)} active, each loaded from its files")


def _model_files(store: Store, settings: Settings) -> Finding:
    artifacts = ArtifactStore.open(settings)
    newest = store.networks.newest_models(MODEL_FILES)
    missing = [sha256 for sha256, form in newest if not artifacts.exists(Artifact("models", sha256, form))]
    if missing:
        said = f"{len(missing)} of {len(newest)} are missing, such as {missing[0]}"
        return Finding("model files", "warn", said, "they are written anew when asked for; uploads must be restored")
    return Finding("model files", "ok", f"{len(newest)} looked for, all there")


def _tokens(store: Store, settings: Settings) -> Iterator[Finding]:
    if not settings.auth:
        yield Finding("tokens", "warn", "authentication is off", "whoever reaches it may do everything: setting auth")
        return
    now = datetime.now(UTC)
    live = [
        one
        for one in store.tokens.list()
        if one.revoked_at is None and (one.expires_at is None or datetime.fromisoformat(one.expires_at) > now)
    ]
    ruled = any(one.role == "admin" for one in live)
    if not ruled:
        yield Finding("tokens", "fail", "no admin's token is valid", "leti token create NAME --role admin")
    unused = [
        one.name for one in live if one.last_used_at is None and now - datetime.fromisoformat(one.created_at) > STALE
    ]
    if unused:
        said = f"{len(unused)} of {len(live)} were never used, such as {unused[0]!r}"
        yield Finding("tokens", "warn", said, "leti token revoke ID")
    elif ruled:
        yield Finding("tokens", "ok", f"{len(live)} valid")


def _devices(store: Store) -> Iterator[Finding]:
    devices = store.devices.list()
    if not devices:
        yield Finding("devices", "warn", "no agent has spoken yet", "leti agent run --url URL")
    for one in devices:
        name = one.device.name
        if one.state == "quarantined":
            yield Finding(
                "devices", "fail", f"{name} is quarantined: {one.reason}", f"mend it, then leti devices release {name}"
            )
        elif one.state == "gone":
            yield Finding("devices", "warn", f"{name} is gone: {one.reason}", "start its agent: leti agent run")
    present = sum(one.state not in ("quarantined", "gone") for one in devices)
    if present:
        yield Finding("devices", "ok", f"{present} of {len(devices)} at work or ready")


def _queue(farm: FarmState, settings: Settings) -> Iterator[Finding]:
    fine = True
    for one in farm.platforms:
        if one.overdue_s > settings.lease_s:
            fine = False
            said = f"{one.platform_id}: a lease ran out {one.overdue_s:.0f} s ago"
            yield Finding("queue", "warn", said, "its agent is gone; the next one that asks gets its jobs: start it")
        if one.jobs["poison"]:
            fine = False
            said = f"{one.platform_id}: {one.jobs['poison']} jobs killed their agents"
            yield Finding("queue", "warn", said, "leti jobs failures says how; leti jobs retry tries again")
    if fine:
        waiting = sum(one.jobs["queued"] for one in farm.platforms)
        lent = sum(one.jobs["leased"] for one in farm.platforms)
        yield Finding("queue", "ok", f"{waiting} jobs wait, {lent} are lent")


def _workers(farm: FarmState) -> Finding:
    present, here = [one for one in farm.workers if one.present], metadata.version("leti")
    if not present:
        last = min(farm.workers, key=lambda one: one.silent_s, default=None)
        said = "" if last is None else f"; {last.name} was last heard of {last.silent_s:.0f} s ago"
        return Finding("workers", "warn", f"none is there{said}", "start one: `leti worker`, or `leti serve`")
    other = [one for one in present if one.version != here]
    if other:
        said = f"{other[0].name} is LETI {other[0].version}, this is {here}"
        return Finding("workers", "warn", said, "install the same release everywhere")
    return Finding("workers", "ok", f"{len(present)} there")


def _tasks(store: Store, farm: FarmState) -> Iterator[Finding]:
    counts = {(one.kind, one.state): one for one in farm.tasks}
    running = sum(one.count for one in farm.tasks if one.state == "running")
    stuck = [one for one in farm.tasks if one.state == "queued" and one.oldest_s > WAITING_S]
    if stuck and not running:
        said = (
            f"{sum(one.count for one in stuck)} wait, since {max(one.oldest_s for one in stuck):.0f} s, and none runs"
        )
        yield Finding("tasks", "fail", said, "no worker takes them: start `leti worker`")
    failed = store.tasks.failed_since(time.time() - 24 * 3600)
    if failed:
        last = failed[-1]
        why = "" if last.problem is None else f": {last.problem.detail[:200]}"
        said = f"{len(failed)} failed in 24 h, last {last.kind} {last.id}{why}"
        yield Finding("tasks", "warn", said, f"its log: GET /v1/tasks/{last.id}/log")
    if not failed and not (stuck and not running):
        waiting = sum(one.count for (_, state), one in counts.items() if state == "queued")
        yield Finding("tasks", "ok", f"{waiting} wait, {running} run")


def _service(health: Callable[[], Health]) -> Finding:
    here = metadata.version("leti")
    try:
        found = health()
    except LetiError as error:
        return Finding("service", "fail", str(error), "start it: leti serve; see its log")
    if (found.version, found.protocol) != (here, PROTOCOL_VERSION):
        said = f"it is LETI {found.version} (protocol {found.protocol}), this is {here} ({PROTOCOL_VERSION})"
        return Finding("service", "fail", said, "install the same release on both sides")
    return Finding("service", "ok", f"it answers; LETI {found.version}, protocol {found.protocol}")
