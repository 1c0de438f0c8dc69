"""Sandbox: one of our modules run on a file that nobody vouches for, in a process that may die of it.

What the child gets: an environment of three variables, an empty folder of its own, the file behind a link in it, and
one pipe for its answer. What holds it: limits on address space, CPU time, open files and written bytes, no new
processes (where it does not run as root, whom that limit does not bind), no core dump, a deadline at which its process
group is killed, a limit on its answer, and on Linux a network of its own without any interface, where the kernel grants
one. What does not: it runs as the service's user, and reads what that user may read. See ``docs/uploads.md``.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, final

from leti.core.codec import Json
from leti.core.errors import InvalidInput, TooLarge, Unavailable

CHUNK_BYTES: Final = 2**16

_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_FIELD: Final = "(body)"


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take: seconds of time (and as many of a processor), address space, bytes of its answer."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 * 2**30
    answer_bytes: int = 64 * 2**20


def run(module: str, file: Path, name: str, limits: Limits) -> Json:
    """Run ``python -m module`` on a file under another name; return the JSON that it answers.

    Raises :class:`TooLarge` where it takes more than it may, :class:`InvalidInput` where it crashes or does not answer
    in JSON, and :class:`~leti.core.errors.Unavailable` where it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="leti-sandbox-") as folder:
        Path(folder, name).symlink_to(file.absolute())
        command = [sys.executable, "-I", "-B", "-m", module, name, json.dumps(asdict(limits))]
        try:
            child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module and no word of a request
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(
                f"no process can be started to read the file: {error.strerror}", remedy="try again later"
            ) from error
        with child:
            try:
                answer = _answer(child, limits)
            finally:
                _kill(child)
    if child.returncode != 0:
        raise _death(child.returncode, limits)
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("made its reader answer what is no JSON", field=_FIELD) from error


def _answer(child: subprocess.Popen[bytes], limits: Limits) -> bytes:
    """Return all that a child says, once it has ended."""
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    deadline = time.monotonic() + limits.timeout_s
    said = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise _too_slow(limits)
            piece = os.read(child.stdout.fileno(), CHUNK_BYTES)
            if not piece:
                break
            said += piece
            if len(said) > limits.answer_bytes:
                raise TooLarge(
                    "holds a network that takes too much to be told", field=_FIELD, limit=limits.answer_bytes
                )
    try:
        child.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise _too_slow(limits) from None
    return bytes(said)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child's process group: its session is its own, and outlives nothing of it."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _too_slow(limits: Limits) -> TooLarge:
    return TooLarge(
        f"was not read within {limits.timeout_s:g} s",
        field=_FIELD,
        remedy="give a smaller network",
        limit=limits.timeout_s,
    )


def _death(code: int, limits: Limits) -> InvalidInput:
    """Return the error for a child that ended otherwise than by itself."""
    if code == -signal.SIGXCPU:
        return _too_slow(limits)
    how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
    return InvalidInput(
        f"crashed the process that read it ({how or f'signal {-code}'})",
        field=_FIELD,
        remedy=f"check the file; its reader may take {limits.memory_bytes} bytes",
        code=code,
    )
