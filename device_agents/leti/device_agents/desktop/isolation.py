"""A measuring process from outside: started, asked, watched, and ended when it has to be."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, final

from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.extras import needs
from leti.device_agents.bench import KeepGoing
from leti.device_agents.desktop.messages import (
    HEAD,
    MODEL,
    MOST_BYTES,
    REFERENCE,
    SAMPLED_NS,
    STEPS,
    STOP,
    Answer,
    Hello,
    Phase,
    Progress,
    Request,
    Setup,
    answer_of,
    packed,
)
from leti.device_agents.disk import written_to

with needs("agent"):
    import psutil

POLL_S: Final = 0.25
START_S: Final = 300.0
"""How long a child may take to start, which no model is to blame for."""

STOP_GRACE_S: Final = 2.0
"""How long a child that is asked to stop may go on before it is ended: a turn of a network takes milliseconds."""

LAST_WORDS_S: Final = 5.0
"""How long the last words of a child that has ended may take to come."""

CHUNK: Final = 1 << 20
TAIL_BYTES: Final = 4096
SAID_CHARACTERS: Final = 1200
"""Of a child's last words, how much an error repeats."""

MEMORY_WORDS: Final = (
    "bad_alloc",
    "memoryerror",
    "out of memory",
    "cannot allocate memory",
    "failed to allocate memory",
)
"""What runtimes say before they die of too little memory."""

DOING: Final = {
    Phase.START: "starting",
    Phase.LOAD: "loading",
    Phase.MEASURE: "running",
    Phase.PROFILE: "profiling",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """When a child is ended: an invoke, or a load (or profile) without an end, too long a batch, or memory.

    ``batch_s`` counts all but timed invokes. ``memory_bytes`` is above what the child has when it says hello.
    """

    invoke_s: float
    load_s: float
    batch_s: float
    memory_bytes: int

    def of(self, phase: Phase) -> float:
        """Return how long a phase may stand still."""
        if phase is Phase.START:
            return START_S
        return self.invoke_s if phase is Phase.MEASURE else self.load_s


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended in the middle of its work, and which model was at hand (:data:`REFERENCE` for that one)."""

    failure: Literal["crashed", "timeout", "out-of-memory"]
    message: str
    model: int = REFERENCE

    def error(self) -> MeasurementFailed:
        """Return it as the failure of a model."""
        return MeasurementFailed(self.message, field="model", failure=self.failure)


@final
class Child:
    """A process of :mod:`leti.device_agents.desktop.child`, alive from batch to batch.

    It ends with the thread that reads its standard error and has started it, and so with this process, however that
    may end: the kernel tells a child of the death of the *thread* that it comes from.
    """

    def __init__(self, setup: Setup, limits: Limits, progress: Path) -> None:
        self._limits = limits
        with written_to(progress.parent):
            self._progress = Progress.create(progress)
        self._page = progress
        self._received = bytearray()
        self._resident_bytes = 0
        self._said = Tail()
        command = [sys.executable, "-P", "-m", "leti.device_agents.desktop.child", str(progress)]
        self._process = self._said.started(command)
        os.set_blocking(_pipe(self._process.stdout).fileno(), False)
        self._send(packed(setup))

    def hello(self, keep_going: KeepGoing) -> Hello | Death | None:
        """Return what the child says once it is ready, ``None`` if ``keep_going`` said no.

        Raises what kept its backend from being created.
        """
        answer = self._wait(keep_going)
        if not isinstance(answer, Answer):
            return answer
        if answer.fault is not None:
            raise answer.fault.error()
        if answer.hello is None:
            return self._nonsense("no hello")
        self._resident_bytes = self._resident() or 0
        return answer.hello

    def ask(self, request: Request, keep_going: KeepGoing) -> Answer | Death | None:
        """Return the answer to a request, the child's end in place of one, ``None`` if ``keep_going`` said no."""
        self._progress.cells[STOP] = 0
        self._send(packed(request))
        answer = self._wait(keep_going)
        if isinstance(answer, Answer) and answer == Answer():
            return None
        return answer

    @property
    def alive(self) -> bool:
        """Whether there is somebody to ask."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the child; closing twice is harmless."""
        self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                _pipe(pipe).close()
        self._said.close()
        self._progress.close()
        self._page.unlink(missing_ok=True)

    def _send(self, frame: bytes) -> None:
        # A child that has died does not read; how it died is found out by waiting for its answer.
        with contextlib.suppress(OSError):
            pipe = _pipe(self._process.stdin)
            pipe.write(frame)
            pipe.flush()

    def _wait(self, keep_going: KeepGoing) -> Answer | Death | None:
        """Wait for a frame, and see to it that the child moves."""
        watch = Watch(self._progress, self._limits)
        stop_by = float("inf")
        while True:
            ended = not self.alive  # asked before reading: what it said last is in the pipe then
            try:
                answer = self._read()
            except InvalidInput as error:
                return self._nonsense(str(error))
            if answer is not None:
                return answer
            if ended:
                return self._death()
            overdue = watch.overdue() or self._too_large()
            if overdue is not None:
                self._kill()
                return overdue
            if time.monotonic() >= stop_by:
                self._kill()
                return None
            if stop_by == float("inf") and not keep_going():
                self._progress.cells[STOP] = 1
                stop_by = time.monotonic() + STOP_GRACE_S
            self._pause()

    def _pause(self) -> None:
        """Wait for something to read, or for the end of a child that has hung up."""
        poll = select.poll()
        poll.register(_pipe(self._process.stdout).fileno(), select.POLLIN)
        if any(not event & select.POLLIN for _, event in poll.poll(POLL_S * 1000)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)

    def _read(self) -> Answer | None:
        """Return the answer, if all of it has come; raise :class:`InvalidInput` for what is none."""
        pipe = _pipe(self._process.stdout).fileno()
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(pipe, CHUNK):
                self._received += chunk
                if len(self._received) > MOST_BYTES:
                    raise InvalidInput("is too long", field="answer")
        if len(self._received) < HEAD.size:
            return None
        (length,) = HEAD.unpack_from(self._received)
        if length > MOST_BYTES or len(self._received) > HEAD.size + length:
            raise InvalidInput("is no frame", field="answer")
        if len(self._received) < HEAD.size + length:
            return None
        body = self._received[HEAD.size :]
        self._received = bytearray()
        return answer_of(body)

    def _kill(self) -> None:
        """End the child and all processes that it has started."""
        if self.alive:
            self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _resident(self) -> int | None:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return None

    def _too_large(self) -> Death | None:
        """Return the end of a child that has grown too large; a kernel that holds the limit comes to that first."""
        resident = self._resident()
        limit = self._limits.memory_bytes
        if not self._resident_bytes or resident is None or resident - self._resident_bytes <= limit:
            return None
        return self._death_of("out-of-memory", f"took more than {limit / 1e6:.0f} MB of memory")

    def _nonsense(self, what: str) -> Death:
        self._kill()
        return self._death_of("crashed", f"answered nonsense ({what})")

    def _death(self) -> Death:
        code = self._process.wait()
        self._kill_group()  # processes that it may have left behind, which hold its pipes
        self._said.finish()
        if code == -signal.SIGKILL:
            return self._death_of("out-of-memory", "was killed from outside, as systems do that run out of memory")
        ended = f"ended with status {code}" if code >= 0 else f"died of {_signal_name(-code)}"
        starved = any(word in self._said.text().lower() for word in MEMORY_WORDS)
        return self._death_of("out-of-memory" if starved else "crashed", ended)

    def _death_of(self, failure: Literal["crashed", "timeout", "out-of-memory"], ended: str) -> Death:
        return _death(self._progress, failure, ended, self._said.text())


@final
class Watch:
    """How long a child has stood still, and how long it is at a batch."""

    def __init__(self, progress: Progress, limits: Limits) -> None:
        self._progress = progress
        self._limits = limits
        self._steps = progress.cells[STEPS]
        self._sampled_ns = progress.cells[SAMPLED_NS]
        self._start_s = self._moved_s = time.monotonic()

    def overdue(self) -> Death | None:
        """Return the end of a child that has to be ended, ``None`` for one that may go on."""
        now_s = time.monotonic()
        steps = self._progress.cells[STEPS]
        if steps != self._steps:
            self._steps, self._moved_s = steps, now_s
        limit_s = self._limits.of(self._progress.phase)
        if now_s - self._moved_s > limit_s:
            return _death(self._progress, "timeout", f"did not come to an end within {limit_s:g} s")
        timed_s = (self._progress.cells[SAMPLED_NS] - self._sampled_ns) / 1e9
        spent_s = now_s - self._start_s - timed_s
        if spent_s > self._limits.batch_s and self._progress.phase is not Phase.START:
            return _death(self._progress, "timeout", f"took the batch {self._limits.batch_s:g} s beside timed runs")
        return None


def _death(
    progress: Progress, failure: Literal["crashed", "timeout", "out-of-memory"], ended: str, said: str = ""
) -> Death:
    words = f"; its last words: {said}" if said else ""
    return Death(failure, f"{DOING[progress.phase]} it, the runtime's process {ended}{words}", progress.cells[MODEL])


@final
class Tail:
    """The end of what a process says on standard error, kept by the thread that starts it."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def started(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process, in a session of its own so that a terminal's signals do not reach it."""
        running: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()

        def run() -> None:
            try:
                process = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                running.append(error)
                ready.set()
                return
            running.append(process)
            ready.set()
            self._keep(process)

        self._thread = threading.Thread(target=run, name="child", daemon=True)
        self._thread.start()
        ready.wait()
        if isinstance(running[0], OSError):
            raise DeviceFault(f"cannot start {command[0]}: {running[0]}", failure="tool-missing") from running[0]
        return running[0]

    def _keep(self, process: subprocess.Popen[bytes]) -> None:
        with _pipe(process.stderr) as pipe:
            while chunk := os.read(pipe.fileno(), CHUNK):
                with self._lock:
                    self._bytes = (self._bytes + chunk)[-TAIL_BYTES:]
        process.wait()

    def text(self) -> str:
        """Return the last words, in one line."""
        with self._lock:
            text = self._bytes.decode(errors="replace")
        return " ".join(text.split())[-SAID_CHARACTERS:]

    def finish(self) -> None:
        """Wait a moment for what a process that has ended said last."""
        if self._thread is not None:
            self._thread.join(LAST_WORDS_S)

    close = finish


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - all three were asked for
    return pipe


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
