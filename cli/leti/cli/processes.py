"""Child processes of the command itself: a service and an agent, with their logs, ended with the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from leti.core.errors import Unavailable

PARENT_HOLDS_STDIN = "LETI_PARENT_HOLDS_STDIN"
"""Set for a child whose standard input stays open as long as its parent lives."""

START_DEADLINE_S = 300.0
STOP_DEADLINE_S = 15.0
GLANCE_S = 0.5
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
"""Before a process that has ended is started again; as long must one have run to begin anew with the first."""


def end_with_parent() -> None:
    """End this process in order once its parent is gone, however that came about, if a parent asked for it."""
    if os.environ.pop(PARENT_HOLDS_STDIN, ""):
        threading.Thread(target=_await_orphanage, daemon=True).start()


def _await_orphanage() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class LetiProcess:
    """``leti ARGUMENTS`` in a process of its own, its output kept in a log file; leaving the context ends it."""

    def __init__(
        self, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, append: bool = False
    ) -> None:
        self.log = log
        self._name = arguments[0]
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log: IO[str] = log.open("a" if append else "w", encoding="utf-8")
        # A session of its own: Ctrl-C reaches the parent, which then ends its children in order.
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and module, arguments as a list)
            [sys.executable, "-m", "leti.cli", *arguments],
            stdin=subprocess.PIPE,
            env={**(os.environ if environment is None else environment), PARENT_HOLDS_STDIN: "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._first: list[str] = []
        self._reader = threading.Thread(target=self._copy, daemon=True)
        self._reader.start()

    def _copy(self) -> None:
        for line in self._process.stdout or ():
            if not self._first and line.startswith("LETI"):
                self._first.append(line.strip())
            self._log.write(line)
            self._log.flush()

    def first_line(self) -> str:
        """Return the line by which the process says that it is ready, empty until then."""
        return self._first[0] if self._first else ""

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise :class:`Unavailable` with the end of the log where the process has ended."""
        if self._process.poll() is not None:
            self._reader.join(STOP_DEADLINE_S)
            tail = " | ".join(self.log.read_text(encoding="utf-8").strip().splitlines()[-3:])
            raise Unavailable(
                f"leti {self._name} ended with code {self._process.returncode}: {tail}", remedy=f"see {self.log}"
            )

    def stop(self) -> None:
        """Ask the process to end, and kill it where it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_DEADLINE_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C: without ceremony
                self._process.kill()
                self._process.wait()
        self._reader.join(STOP_DEADLINE_S)
        for stream in filter(None, (self._process.stdin, self._process.stdout, self._log)):
            stream.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.stop()


class Keeper:
    """Keeps processes running until the context is left: one that ends is started again, after ever longer pauses.

    ``make`` starts number i of ``count`` of them. They are ended together.
    """

    def __init__(self, count: int, make: Callable[[int], LetiProcess]) -> None:
        self._count = count
        self._make = make
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the processes."""
        self._threads = [threading.Thread(target=self._keep, args=(number,)) for number in range(self._count)]
        for thread in self._threads:
            thread.start()

    def _keep(self, number: int) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            started = time.monotonic()
            process = self._make(number)
            while not process.ended and not self._stop.wait(GLANCE_S):
                pass
            process.stop()
            if time.monotonic() - started > MOST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class ServiceProcess(LetiProcess):
    """``leti serve`` on a free loopback port, at ``url``; raises :class:`Unavailable` unless it starts."""

    url: str

    def __init__(self, home: Path, *, auth: bool = False) -> None:
        options = [] if auth else ["--no-auth"]
        super().__init__(["serve", *options, "--home", str(home), "--port", "0"], log=home / "service.log")
        try:
            self.url = self._await_url()
        except BaseException:
            self.stop()
            raise

    def _await_url(self) -> str:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            for word in self.first_line().split():
                if word.startswith("http://"):
                    return word
            self.check()
            time.sleep(0.05)
        raise Unavailable(f"the service did not start within {START_DEADLINE_S:.0f} s", remedy=f"see {self.log}")
