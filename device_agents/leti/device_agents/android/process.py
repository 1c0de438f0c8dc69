"""A program on this machine, run to its end within limits on time and output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MOST_OUTPUT_BYTES: Final = 16 * 2**20
POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Ran:
    """A program's exit status and what it wrote."""

    rc: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams, the standard output first."""
        return self.stdout + self.stderr


class Cut(Exception):
    """A program was killed before its end; ``why`` is ``time``, ``output`` or ``stopped``. It stays in this package."""

    def __init__(self, why: str, stdout: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.stdout = stdout


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    keep_going: Callable[[], bool] | None = None,
) -> Ran:
    """Run ``argv`` with nothing to read; return what it wrote.

    Its whole process group is killed after ``timeout_s``, when it writes more than :data:`MOST_OUTPUT_BYTES`, or when
    ``keep_going`` says no: then :class:`Cut` is raised. It has a session of its own, so that an interrupt from the
    keyboard reaches the agent and not the program behind its back. Raises :class:`OSError` where it cannot be started.
    """
    process = subprocess.Popen(  # noqa: S603
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=None if environment is None else dict(environment),
        start_new_session=True,
    )
    with process:
        streams = {"stdout": bytearray(), "stderr": bytearray()}
        try:
            why = _read(process, streams, time.monotonic() + timeout_s, keep_going)
            if not why:
                return Ran(process.wait(), _text(streams["stdout"]), _text(streams["stderr"]))
            raise Cut(why, _text(streams["stdout"]))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _read(
    process: subprocess.Popen[bytes],
    streams: Mapping[str, bytearray],
    deadline_s: float,
    keep_going: Callable[[], bool] | None,
) -> str:
    """Collect what ``process`` writes until it ends; return why it must be killed, or the empty string.

    The end is that of the process, not of its streams: a daemon that it leaves behind may hold those open.
    """
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, streams[name])
        while True:
            left_s = deadline_s - time.monotonic()
            ended = process.poll() is not None
            ready = selector.select(0 if ended else max(0.0, min(POLL_S, left_s))) if selector.get_map() else []
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            if sum(map(len, streams.values())) > MOST_OUTPUT_BYTES:
                return "output"
            if ended and not ready:
                return ""
            if not ended and left_s <= 0:
                return "time"
            if keep_going is not None and not keep_going():
                return "stopped"
            if not selector.get_map() and not ended:
                time.sleep(0.005)


def _text(stream: bytearray) -> str:
    return stream.decode("utf-8", errors="replace")
