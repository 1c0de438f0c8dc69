"""This machine with a backend on it: a bench whose models run in a process of their own, within limits."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import random
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final, final

from typing_extensions import override

from leti.core.device import ModelPrecision, Precision
from leti.core.errors import LetiError, MeasurementFailed
from leti.core.extras import needs
from leti.core.measurement import OperatorTime, Recipe
from leti.device_agents.bench import Bench, Finding, KeepGoing, Outcome, Waiting, Wanted
from leti.device_agents.desktop.folder import PrivateFolder
from leti.device_agents.desktop.host import (
    Gate,
    desktop_platform,
    measuring_cores,
    other_cores,
    run_facts,
    scheduled,
)
from leti.device_agents.desktop.isolation import Death, Limits
from leti.device_agents.desktop.keeper import Keeper
from leti.device_agents.desktop.messages import Fault, Measured, Report, Request, Setup
from leti.device_agents.disk import written_to
from leti.device_agents.timing import Protocol

with needs("agent"):
    import psutil

log = logging.getLogger(__name__)

DEFAULT_PROTOCOL: Final = Protocol()
MOST_MEMORY_BYTES: Final = 4 * 1024**3

COOL_ATTEMPTS: Final = 2
"""How often a batch is measured whose end finds the processor hot."""


@final
class DesktopBench(Bench):
    """This machine with the backend that is registered as ``backend``, for networks stored in ``model_precision``.

    Models run in a child process that lives from batch to batch, pinned unless ``pin`` is false, with real-time
    priority where ``realtime`` asks for it and the system permits it. Models may take ``memory_limit_bytes`` together
    (by default 4 GiB, or three quarters of the machine's memory where that is less), one run ``invoke_limit_s``, the
    loading or profiling of one model ``load_limit_s``, and a batch ``batch_limit_s`` beside its timed runs. A processor
    above ``hot_c`` is waited for, as ``gate`` does it. ``order`` draws the order of networks.
    """

    def __init__(
        self,
        backend: str,
        *,
        delegate: str = "",
        threads: int = 1,
        precision: Precision = "fp32",
        model_precision: ModelPrecision = "float32",
        name: str = "",
        pin: bool = True,
        realtime: bool = False,
        protocol: Protocol = DEFAULT_PROTOCOL,
        memory_limit_bytes: int | None = None,
        invoke_limit_s: float = 60.0,
        load_limit_s: float = 300.0,
        batch_limit_s: float = 600.0,
        hot_c: float = 85.0,
        gate: Gate | None = None,
        order: random.Random | None = None,
    ) -> None:
        limit_bytes = memory_limit_bytes or min(MOST_MEMORY_BYTES, psutil.virtual_memory().total * 3 // 4)
        limits = Limits(invoke_limit_s, load_limit_s, batch_limit_s, limit_bytes)
        affinity = measuring_cores(threads) if pin else ()
        setup = Setup(backend, delegate, threads, precision, affinity, realtime, limit_bytes, protocol)
        self._gate = gate or Gate(hot_c)
        self._order = order or random.Random()  # noqa: S311 - an order, not a secret
        self._agent_version = metadata.version("leti")
        self._effort_s: defaultdict[str, float] = defaultdict(float)
        folder = PrivateFolder()
        self._folder = folder.path
        self._keeper = Keeper(setup, limits, self._folder, self._effort_s)
        self._closing = weakref.finalize(self, _close, self._keeper, folder)
        try:
            hello = self._keeper.start(lambda: True)
        except BaseException:
            self.close()
            raise
        assert hello is not None  # noqa: S101 - nobody said no
        self.model_format = hello.model_format
        platform = desktop_platform(hello, name=name, model_precision=model_precision)
        self.platform = dataclasses.replace(platform, affinity=affinity)
        self._protocol_pairs = (*protocol.pairs(), ("realtime", float(hello.realtime)))

    @override
    def measure(
        self, wanted: Sequence[Wanted], reference: bytes, *, keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        start_s, accounted_s = time.monotonic(), sum(self._effort_s.values())
        try:
            # The thread that watches stays away from the cores that it would disturb.
            with scheduled(other_cores(self.platform.affinity)), self._files(wanted, reference) as paths:
                return self._outcomes(wanted, paths, keep_going, waiting)
        finally:
            spent_s = time.monotonic() - start_s - (sum(self._effort_s.values()) - accounted_s)
            self._effort_s["other"] += max(0.0, spent_s)

    @override
    def effort(self) -> Mapping[str, float]:
        return dict(self._effort_s)

    @override
    def close(self) -> None:
        self._closing()

    def _outcomes(
        self, wanted: Sequence[Wanted], paths: Sequence[str], keep_going: KeepGoing, waiting: Waiting
    ) -> tuple[Outcome, ...] | None:
        """Measure, then profile."""
        outcomes = self._while_cool(paths, keep_going, waiting)
        if outcomes is None:
            return None
        for i, (each, outcome) in enumerate(zip(wanted, outcomes, strict=True)):
            if each.profile and isinstance(outcome, Finding) and keep_going():
                times = self._profile(paths[i + 1], keep_going)
                outcomes[i] = dataclasses.replace(outcome, operator_times=times)
        return tuple(outcomes)

    def _while_cool(self, paths: Sequence[str], keep_going: KeepGoing, waiting: Waiting) -> list[Outcome] | None:
        """Measure on a processor that is cool, again if it got hot over it; what stays hot is noisy."""
        outcomes: list[Outcome] = []
        for _ in range(COOL_ATTEMPTS):
            found = self._together(paths, keep_going) if self._passed(keep_going, waiting) else None
            if found is None or (hot_c := self._gate.too_hot_c()) is None:
                return found
            outcomes = found
            log.warning("the processor had %.0f °C at the end of a batch", hot_c)
        return [dataclasses.replace(o, noisy=True) if isinstance(o, Finding) else o for o in outcomes]

    def _passed(self, keep_going: KeepGoing, waiting: Waiting) -> bool:
        start_s = time.monotonic()
        try:
            return self._gate.passed(keep_going, waiting)
        finally:
            self._effort_s["gates"] += time.monotonic() - start_s

    def _together(self, paths: Sequence[str], keep_going: KeepGoing) -> list[Outcome] | None:
        """Measure the models beside the reference, the first of ``paths``; alone those that may be at fault."""
        reference, *models = paths
        found = self._ask(reference, models, keep_going)
        if found is None:
            return None
        outcomes: dict[int, Outcome] = {}
        if isinstance(found, Death):
            log.warning("a batch has ended its process (%s): each of its models is measured alone", found.message)
            alone = self._ask(reference, [], keep_going)
            if alone is None:
                return None
            if isinstance(alone, Death):
                raise _of_reference(alone.error())
            if len(models) == 1:
                return [found.error()]
        else:
            outcomes = {i: outcome for i, outcome in enumerate(found) if len(models) == 1 or not _is_starved(outcome)}
        for i in range(len(models)):
            if i not in outcomes:
                self._keeper.drop()
                single = self._ask(reference, [models[i]], keep_going)
                if single is None:
                    return None
                outcomes[i] = single.error() if isinstance(single, Death) else single[0]
        return [outcomes[i] for i in range(len(models))]

    def _ask(self, reference: str, models: Sequence[str], keep_going: KeepGoing) -> list[Outcome] | Death | None:
        request = Request(tuple(models), reference, self._order.getrandbits(32))
        answer = self._keeper.ask(request, keep_going)
        if answer is None or isinstance(answer, Death):
            return answer
        if answer.fault is not None:
            raise _of_reference(answer.fault.error())
        if answer.report is None or len(answer.report.items) != len(models):
            self._keeper.drop()
            return Death("crashed", "running it, the runtime's process answered something else")
        for part, spent_s in answer.report.effort_s.items():
            self._effort_s[part] += spent_s
        recipe = self._recipe(answer.report)
        return [_outcome(item, path, recipe) for item, path in zip(answer.report.items, models, strict=True)]

    def _recipe(self, report: Report) -> Recipe:
        """Return what the recipes of a batch have in common."""
        return Recipe(
            agent_version=self._agent_version,
            runtime_version=self.platform.runtime_version,
            model_sha256="",
            protocol=self._protocol_pairs,
            before=report.before,
            after=report.after,
            measured_at=report.measured_at,
            facts=run_facts(self.platform.affinity),
        )

    def _profile(self, path: str, keep_going: KeepGoing) -> tuple[OperatorTime, ...]:
        """Return the times of a model's operators; what keeps them from being had does not cost its measurement."""
        start_s, before_s = time.monotonic(), self._effort_s["start"]
        try:
            answer = self._keeper.ask(Request((path,), profile=True), keep_going)
        except LetiError as error:
            log.warning("no operator times: %s", error)
            return ()
        finally:
            started_s = self._effort_s["start"] - before_s
            self._effort_s["profile"] += time.monotonic() - start_s - started_s
        if isinstance(answer, Death):
            log.warning("no operator times: %s", answer.message)
            return ()
        if answer is not None and answer.fault is not None:
            log.warning("no operator times: %s", answer.fault.error())
        return (answer.profile or ()) if answer is not None else ()

    @contextmanager
    def _files(self, wanted: Sequence[Wanted], reference: bytes) -> Iterator[list[str]]:
        """Keep the model files in a private folder, named by their SHA-256, the reference first."""
        paths: list[Path] = []
        try:
            for model in (reference, *(each.model for each in wanted)):
                paths.append(self._folder / f"{hashlib.sha256(model).hexdigest()}.model")
                if not paths[-1].exists():
                    with written_to(self._folder):
                        paths[-1].write_bytes(model)
            yield [str(path) for path in paths]
        finally:
            for path in paths:
                path.unlink(missing_ok=True)


def _outcome(item: Measured | Fault, path: str, recipe: Recipe) -> Outcome:
    if isinstance(item, Fault):
        error = item.error()
        return error if isinstance(error, MeasurementFailed) else MeasurementFailed(str(error), failure="other")
    return Finding(
        passes=item.passes,
        noisy=item.noisy,
        recipe=dataclasses.replace(recipe, model_sha256=Path(path).stem),
        init_ms=item.init_ms,
        first_inference_ms=item.first_inference_ms,
        peak_memory_bytes=item.peak_memory_bytes,
    )


def _of_reference(error: LetiError) -> LetiError:
    """Return the error of a reference network as one that says so; a device's fault stays what it is."""
    if type(error) is not MeasurementFailed:
        return error
    return MeasurementFailed(
        f"the reference network: {error.message}", field="reference", failure=error.details.get("failure", "other")
    )


def _is_starved(outcome: Outcome) -> bool:
    """Return whether memory ran out: alone, the model may have enough."""
    return isinstance(outcome, MeasurementFailed) and outcome.details.get("failure") == "out-of-memory"


def _close(keeper: Keeper, folder: PrivateFolder) -> None:
    keeper.drop()
    folder.close()
