"""A phone behind adb as a bench: whole processes of benchmark_model, gated, interleaved with the reference network.

A sample is one process: its median where the tool states one, else its mean. Processes of candidates and reference
take turns as invokes do on a desktop (:mod:`leti.device_agents.timing`); the first process of each checks that it
loads and is not counted.
"""

from __future__ import annotations

import hashlib
import logging
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final, final

from typing_extensions import override

from leti.core.device import ModelFormat, ModelPrecision, Platform
from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.measurement import OperatorTime, Pass, Recipe
from leti.device_agents.android.adb import BACK_S, Adb, choose, is_network
from leti.device_agents.android.faults import device_fault
from leti.device_agents.android.gate import Gate, Limits
from leti.device_agents.android.lock import PhoneLock
from leti.device_agents.android.phone import identify
from leti.device_agents.android.process import Cut
from leti.device_agents.android.session import Binary, PhoneSession, Sample
from leti.device_agents.android.staging import sha256_of
from leti.device_agents.android.tool import Delegate, Loops, Setting
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.timing import Protocol, Timed, Timing, measure

ANDROID_PROTOCOL: Final = Protocol(
    warmup_invokes=1,  # the load check
    settle=0,
    pass_invokes=1,
    reference_invokes=1,
    passes=5,
    drift=0.05,
    slowdown=0.1,
    calm_share=0.6,
)
"""One process a turn: samples are seconds apart, and each is a median of many invokes already."""

DEFAULT_LIMITS: Final = Limits()
DEFAULT_LOOPS: Final = Loops()

NOISY_SPREAD: Final = 0.05
"""From which spread of its ratios, (largest - smallest) / median over calm passes, a measurement is noisy."""

REFERENCE: Final = "reference.tflite"
RUNTIME: Final = "benchmark_model"
PARTS: Final = ("candidates", "reference", "gates", "start", "rest", "load", "warm-up", "profile", "other")

log = logging.getLogger(__name__)


class _Process(Timed):
    """Processes on one model; the first is a load check. ``part`` is what they count as."""

    def __init__(self, session: PhoneSession, model: str, part: str) -> None:
        self._session = session
        self._model = model
        self._part = part
        self._checked = False
        self.samples: list[Sample] = []

    @override
    def sample_ms(self) -> float:
        sample = self._session.run(self._model)
        report, effort = sample.report, self._session.effort
        runs_s, warm_s = (each.count * each.mean_ms / 1e3 for each in (report.runs, report.warm_up))
        if self._checked:
            self.samples.append(sample)
            effort[self._part] += runs_s
            effort["warm-up"] += warm_s
            effort["load"] += max(0.0, sample.elapsed_s - runs_s - warm_s)
        else:
            self._checked = True
            effort["warm-up"] += sample.elapsed_s
        return report.runs.typical_ms


@final
class AndroidBench(Bench):
    """The phone ``serial`` (empty: the only one there), measured by the benchmark_model at ``binary``.

    ``delegate`` runs the networks on ``threads`` threads, pinned to ``cluster`` (``any``: not pinned). On the GPU
    float16 is allowed unless ``fp16`` is false. ``rest_s`` is the pause between processes, ``limits`` the gate,
    ``loops`` how long a process runs. ``memory`` adds a short process for each network that watches its memory;
    without it the peak is what each process tells at its end. The phone is locked until :meth:`close`.

    Raises :class:`~leti.core.errors.DeviceFault` where the phone, adb or the binary cannot be used, and
    :class:`~leti.core.errors.InvalidInput` for a cluster that the phone has not.
    """

    platform: Platform
    model_format: ModelFormat = "tflite"

    def __init__(
        self,
        serial: str = "",
        binary: Path = Path(RUNTIME),
        *,
        delegate: Delegate = "xnnpack",
        threads: int = 1,
        cluster: str = "big",
        model_precision: ModelPrecision = "float32",
        fp16: bool = True,
        protocol: Protocol = ANDROID_PROTOCOL,
        rest_s: float = 10.0,
        limits: Limits = DEFAULT_LIMITS,
        loops: Loops = DEFAULT_LOOPS,
        memory: bool = False,
        noisy_spread: float = NOISY_SPREAD,
        name: str = "",
        back_s: float = BACK_S,
        adb: Adb | None = None,
        lock_folder: Path | None = None,
        order: random.Random | None = None,
    ) -> None:
        if protocol.settle:
            raise InvalidInput("a process settles by itself: must be 0", field="settle")
        if not binary.is_file():
            raise device_fault("no-tool", f"there is no file {binary}")
        self._adb = adb or Adb()
        self._adb.start_server()
        if is_network(serial):
            self._adb.connect(serial)
        self._link = self._adb.link(serial or choose(self._adb.devices()).serial)
        self._link.ready(back_s)
        self._phone = identify(self._link)
        self._binary = Binary(binary, sha256_of(binary))
        pinned = self._phone.cluster(cluster, threads)
        self._setting = Setting(delegate, threads, pinned, fp16, loops)
        self._protocol = protocol
        self._rest_s = rest_s
        self._gate = Gate(self._link, pinned.cores or self._phone.cores, limits)
        self._memory = memory
        self._noisy_spread = noisy_spread
        self._back_s = back_s
        self._order = order or random.Random()  # noqa: S311
        self._effort: Counter[str] = Counter(dict.fromkeys(PARTS, 0.0))
        self._adb_version = self._adb.version()
        self.platform = Platform(
            device=self._phone.device(name),
            runtime=RUNTIME,
            runtime_version=self._binary.sha256[:12],
            delegate=delegate,
            threads=threads,
            affinity=pinned.cores,
            precision="fp16" if delegate == "gpu" and fp16 else "fp32",
            model_precision=model_precision,
        )
        self._lock = PhoneLock(self._phone.serial_number, lock_folder)

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        models = {f"{i}.tflite": each.model for i, each in enumerate(wanted)}
        with self._lock.turn:
            session = PhoneSession(
                self._link,
                self._phone,
                self._binary,
                {REFERENCE: reference, **models},
                self._setting,
                self._gate,
                rest_s=self._rest_s,
                keep_going=keep_going,
                waiting=waiting,
                back_s=self._back_s,
            )
            start_s = time.monotonic()
            try:
                return self._measured(session, tuple(models), wanted, keep_going)
            except Cut:
                return None
            finally:
                session.close()
                session.effort["other"] = max(0.0, time.monotonic() - start_s - sum(session.effort.values()))
                self._effort.update(session.effort)

    @override
    def effort(self) -> Mapping[str, float]:
        return dict(self._effort)

    @override
    def close(self) -> None:
        self._lock.release()

    def _measured(
        self, session: PhoneSession, names: Sequence[str], wanted: Sequence[Wanted], keep_going: KeepGoing
    ) -> tuple[Outcome, ...] | None:
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        session.open()
        processes = [_Process(session, name, "candidates") for name in names]
        pace = _Process(session, REFERENCE, "reference")
        timings = measure(processes, pace, self._protocol, order=self._order, keep_going=keep_going)
        if timings is None:
            return None
        outcomes: list[Outcome] = []
        extras = _Extras(session, self._memory)
        for name, each, timing, process in zip(names, wanted, timings.items, processes, strict=True):
            if timing.failure is not None:
                outcomes.append(timing.failure)
                continue
            operators, memory_bytes, facts = extras.of(name, each.profile)
            outcomes.append(
                self._finding(session, each, timing, process.samples, started_at, operators, memory_bytes, facts)
            )
        return tuple(outcomes)

    def _finding(
        self,
        session: PhoneSession,
        wanted: Wanted,
        timing: Timing,
        samples: Sequence[Sample],
        started_at: str,
        operators: tuple[OperatorTime, ...],
        memory_bytes: int | None,
        facts: Mapping[str, str],
    ) -> Finding:
        kept = samples[-sum(len(each.samples_ms) for each in timing.passes) :]
        reports = [sample.report for sample in kept]
        spread = _spread(timing.passes)
        recipe = Recipe(
            agent_version=metadata.version("leti"),
            runtime_version=self.platform.runtime_version,
            model_sha256=hashlib.sha256(wanted.model).hexdigest(),
            protocol=(*self._protocol.pairs(), ("rest_s", self._rest_s)),
            command=kept[-1].command,
            before=kept[0].before.conditions,
            after=kept[-1].after.conditions,
            measured_at=started_at,
            facts=(*self._facts(session, kept), ("spread", f"{spread:.4f}"), *facts.items()),
        )
        growths = [report.memory_growth_bytes for report in reports if report.memory_growth_bytes is not None]
        return Finding(
            passes=timing.passes,
            noisy=timing.noisy or spread > self._noisy_spread,
            recipe=recipe,
            grain="process",
            init_ms=_median([report.init_ms for report in reports]),
            first_inference_ms=_median([report.first_inference_ms for report in reports]),
            peak_memory_bytes=max(growths, default=None) if memory_bytes is None else memory_bytes,
            processes=tuple(report.runs for report in reports),
            operator_times=operators,
        )

    def _facts(self, session: PhoneSession, samples: Sequence[Sample]) -> tuple[tuple[str, str], ...]:
        phone, last = self._phone, samples[-1]
        cluster = self._setting.cluster
        known = all(sample.before.thermal_known for sample in samples)
        return (
            ("binary_sha256", self._binary.sha256),
            ("adb", self._adb_version),
            ("shell", "v2" if "shell_v2" in phone.features else "v1"),
            ("fingerprint", phone.fingerprint),
            ("abi", phone.abi),
            ("cluster", cluster.name),
            ("mask", cluster.mask if cluster.cores else ""),
            ("delegate_line", last.delegate_line),
            ("tool", last.report.generation),
            ("unconsumed", " ".join(last.report.unconsumed)),
            ("thermal", "known" if known else "unknown"),
            ("redone", "; ".join(session.redone)[:500]),
            *session.surroundings.items(),
        )


@final
class _Extras:
    """The processes beside those that are timed, for memory and operators: what fails there leaves the times alone."""

    def __init__(self, session: PhoneSession, memory: bool) -> None:
        self._session = session
        self._memory = memory
        self._lost = ""

    def of(self, model: str, profile: bool) -> tuple[tuple[OperatorTime, ...], int | None, dict[str, str]]:
        """Return operators, how far memory grew in bytes, and facts: what is missing, and why."""
        facts: dict[str, str] = {}
        operators: tuple[OperatorTime, ...] = ()
        memory_bytes: int | None = None
        if profile:
            try:
                operators = () if self._lost else self._session.profile(model)
                facts |= {} if operators else {"profile": "this benchmark_model does not tell it"}
            except MeasurementFailed as error:
                self._failed(error)
                facts["profile"] = str(error)[:300]
        if self._memory and not self._lost:
            try:
                report = self._session.memory(model)
            except MeasurementFailed as error:
                self._failed(error)
                facts["memory"] = str(error)[:300]
            else:
                memory_bytes = report.memory_growth_bytes
                facts["peak_memory_bytes"] = str(report.peak_memory_bytes or "")
        if self._lost and (profile or self._memory):
            facts["profile"] = self._lost
        return operators, memory_bytes, facts

    def _failed(self, error: MeasurementFailed) -> None:
        log.warning("no further detail: %s", error)
        if isinstance(error, DeviceFault):
            self._lost = str(error)[:300]


def _spread(passes: Sequence[Pass]) -> float:
    """Return (largest - smallest) / median of the ratios of calm passes, or of all where none is calm."""
    ratios = [each.ratio for each in passes if each.calm] or [each.ratio for each in passes]
    return (max(ratios) - min(ratios)) / statistics.median(ratios)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
