"""The process in which models run: ``python -m leti.device_agents.desktop.child``, started by a bench.

What runs here may crash, hang or take all memory: the bench watches from outside
(:mod:`leti.device_agents.desktop.isolation`). A child says hello, then answers requests until its standard input ends
or its parent dies.
"""

from __future__ import annotations

import ctypes
import os
import queue
import random
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, final

from typing_extensions import override

from leti.core.errors import DeviceFault, LetiError, MeasurementFailed
from leti.device_agents.backend import Backend, Session
from leti.device_agents.backends import create
from leti.device_agents.desktop.host import Monitor, scheduled
from leti.device_agents.desktop.memory import PeakMemory, limit_memory, status_bytes, trim, unlimited
from leti.device_agents.desktop.messages import (
    HEAD,
    MODEL,
    REFERENCE,
    SAMPLED_NS,
    STEPS,
    STOP,
    Answer,
    Fault,
    Hello,
    Measured,
    Phase,
    Progress,
    Report,
    Request,
    Setup,
    packed,
    request_of,
    setup_of,
)
from leti.device_agents.timing import Clocked, Timed, Timings, measure

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(progress: Path) -> None:
    """Say hello and answer requests."""
    end_with_parent()
    requests, answers = take_pipes()
    inbox = Inbox(requests)
    setup = setup_of(inbox.take())
    with scheduled(setup.affinity, realtime=setup.realtime) as realtime:
        try:
            backend = create(setup.backend, delegate=setup.delegate, threads=setup.threads, precision=setup.precision)
        except LetiError as error:
            _say(answers, Answer(fault=Fault.of(error)))
            return
        limit_memory(setup.memory_limit_bytes)
        measurer = Measurer(backend, setup, Progress(progress))
        _say(answers, Answer(hello=_hello(backend, realtime)))
        while True:
            _say(answers, measurer.answer(request_of(inbox.take())))


def _hello(backend: Backend, realtime: bool) -> Hello:
    return Hello(
        backend.runtime,
        backend.runtime_version,
        backend.delegate,
        backend.threads,
        backend.precision,
        backend.model_format,
        realtime,
    )


def _say(answers: BinaryIO, answer: Answer) -> None:
    answers.write(packed(answer))
    answers.flush()


# --- a process apart --------------------------------------------------------------------------------------------------


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, where it can; the end of standard input does it too."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return standard input and output, and leave runtimes that read or print nothing and standard error instead."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


@final
class Inbox:
    """Frames from the bench, read by a thread that sleeps meanwhile, and that ends the process at their end."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def take(self) -> bytes:
        """Return the body of the next frame, waiting for it."""
        return self._frames.get()

    def _read(self) -> NoReturn:
        while len(head := self._pipe.read(HEAD.size)) == HEAD.size:
            self._frames.put(self._pipe.read(*HEAD.unpack(head)))
        os._exit(0)  # in the middle of a run, if need be: nobody waits for it any more


# --- measuring --------------------------------------------------------------------------------------------------------


@final
class Watched(Timed):
    """A session's invokes, each of which leaves a trace in the progress."""

    def __init__(self, session: Session, model: int, progress: Progress) -> None:
        self._clocked = Clocked(session, time.perf_counter_ns)
        self._model = model
        self._cells = progress.cells

    @override
    def sample_ms(self) -> float:
        cells = self._cells
        cells[MODEL] = self._model
        cells[STEPS] += 1
        try:
            sample_ms = self._clocked.sample_ms()
        except MemoryError as error:
            raise out_of_memory("running") from error
        cells[SAMPLED_NS] += int(sample_ms * 1e6)
        return sample_ms


def out_of_memory(doing: str) -> MeasurementFailed:
    """Return the error of a model that was not given the memory that it wanted."""
    return MeasurementFailed(f"memory ran out while {doing} the model", field="model", failure="out-of-memory")


@final
class Measurer:
    """Answers requests with one backend."""

    def __init__(self, backend: Backend, setup: Setup, progress: Progress) -> None:
        self._backend = backend
        self._protocol = setup.protocol
        self._progress = progress
        self._monitor = Monitor(setup.affinity)

    def answer(self, request: Request) -> Answer:
        """Return what a request asks for, or the error that ended all of it."""
        try:
            return self._profile(request) if request.profile else self._measure(request)
        except LetiError as error:
            return Answer(fault=Fault.of(error))

    def _profile(self, request: Request) -> Answer:
        self._progress.enter(Phase.PROFILE, 0)
        return Answer(profile=self._backend.profile(Path(request.models[0]).read_bytes()))

    def _measure(self, request: Request) -> Answer:
        start_s = time.perf_counter()
        with ExitStack() as stack:
            reference, _ = self._load(stack, request.reference, REFERENCE)
            loaded: dict[int, tuple[Session, int | None]] = {}
            items: dict[int, Measured | Fault] = {}
            for i, path in enumerate(request.models):
                try:
                    loaded[i] = self._load(stack, path, i)
                except DeviceFault:
                    raise
                except MeasurementFailed as error:
                    items[i] = Fault.of(error)
            load_s = time.perf_counter() - start_s
            before, measured_at = self._monitor.conditions(), datetime.now(UTC).isoformat(timespec="seconds")
            timings = self._time(reference, {i: session for i, (session, _) in loaded.items()}, request.seed)
            after = self._monitor.conditions()
            if timings is None:
                return Answer()
            for (i, (session, peak)), timing in zip(loaded.items(), timings.items, strict=True):
                items[i] = (
                    Measured(timing.passes, timing.noisy, session.init_ms, session.first_inference_ms, peak)
                    if timing.failure is None
                    else Fault.of(timing.failure)
                )
            start_s = time.perf_counter()
        trim()
        load_s += time.perf_counter() - start_s
        effort = {"load": load_s, **_parts_s(timings)}
        ordered = tuple(items[i] for i in range(len(request.models)))
        return Answer(report=Report(ordered, before, after, measured_at, effort, status_bytes("VmRSS")))

    def _load(self, stack: ExitStack, path: str, model: int) -> tuple[Session, int | None]:
        """Return the session of a model file, and how far resident memory grew from reading it to its first run."""
        self._progress.enter(Phase.LOAD, model)
        memory = PeakMemory()
        try:
            session = self._backend.load(Path(path).read_bytes())
        except MemoryError as error:
            raise out_of_memory("loading") from error
        except DeviceFault:
            raise
        except MeasurementFailed as error:
            if self._wants_more(path):
                raise out_of_memory("loading") from error
            raise
        stack.callback(session.close)
        return session, memory.growth_bytes()

    def _wants_more(self, path: str) -> bool:
        """Return whether a model that was refused loads without a limit: a starved runtime calls it names."""
        with unlimited() as is_lifted:
            try:
                if is_lifted:
                    self._backend.load(Path(path).read_bytes()).close()
            except (MeasurementFailed, MemoryError):
                return False
            return is_lifted

    def _time(self, reference: Session, sessions: dict[int, Session], seed: int) -> Timings | None:
        progress = self._progress
        progress.enter(Phase.MEASURE)
        return measure(
            [Watched(session, i, progress) for i, session in sessions.items()],
            Watched(reference, REFERENCE, progress),
            self._protocol,
            order=random.Random(seed),  # noqa: S311 - an order, not a secret
            keep_going=lambda: not progress.cells[STOP],
        )


def _parts_s(timings: Timings) -> dict[str, float]:
    took = timings.effort
    return {
        "candidates": took.candidates_ms / 1000,
        "reference": took.reference_ms / 1000,
        "warm-up": took.warm_up_ms / 1000,
        "settle": took.settle_ms / 1000,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
