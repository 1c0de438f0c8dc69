"""Sandbox: a command run on a file that nobody vouches for, in a process that may die of it.

What the child gets: an environment of three variables, an empty folder of its own, the file behind a link in it, and
one pipe for its answer. What holds it: limits on address space, CPU time, open files and written bytes, no new
processes (where it does not run as root, whom that limit does not bind), no core dump, a deadline at which its process
group is killed, a limit on its answer, and on Linux a network of its own without any interface, where the kernel grants
one. What does not: it runs as the service's user, and reads what that user may read. See ``docs/uploads.md``.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
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


def run(command: Sequence[str], file: Path, name: str, limits: Limits) -> Json:
    """Run a command on a file, which it finds as ``name`` in its own folder; return the JSON that it answers.

    It gets the name, and the limits as JSON, as its last arguments, and keeps to those that only it can set itself.

    Raises :class:`TooLarge` where it takes more than it may, :class:`InvalidInput` where it crashes or does not answer
    in JSON, and :class:`~leti.core.errors.Unavailable` where it cannot be started.
    """
    answer = bytearray()
    code = pour(command, file, name, limits, answer.extend)
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _death(code, limits) from error


def pour(command: Sequence[str], file: Path, name: str, limits: Limits, hear: Callable[[bytes], object]) -> int:
    """Run a command on a file as :func:`run` does; give ``hear`` what it answers as it comes, return its exit code."""
    with tempfile.TemporaryDirectory(prefix="leti-sandbox-") as folder:
        Path(folder, name).symlink_to(file.absolute())
        try:
            child = subprocess.Popen(  # noqa: S603 - a command of ours, and no word of a request
                [*command, name, json.dumps(asdict(limits))],
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
                _listen(child, limits, hear)
            finally:
                _kill(child)
    return child.returncode


def _listen(child: subprocess.Popen[bytes], limits: Limits, hear: Callable[[bytes], object]) -> None:
    """Hear all that a child says until it ends, or nobody is left who could say more."""
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    deadline = time.monotonic() + limits.timeout_s
    said = 0
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise _too_slow(limits)
            piece = os.read(child.stdout.fileno(), CHUNK_BYTES)
            if not piece:
                return
            said += len(piece)
            if said > limits.answer_bytes:
                raise TooLarge("holds what takes too much to be told", field=_FIELD, limit=limits.answer_bytes)
            hear(piece)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a child's process group, before the child is waited for: until then the number is its."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _too_slow(limits: Limits) -> TooLarge:
    return TooLarge(
        f"was not read within {limits.timeout_s:g} s",
        field=_FIELD,
        remedy="give a smaller one",
        limit=limits.timeout_s,
    )


def _death(code: int, limits: Limits) -> InvalidInput:
    """Return the error for a child that ended without an answer; one that was still ending was killed."""
    if code == -signal.SIGXCPU:
        return _too_slow(limits)
    how = f"{signal.strsignal(-code)}, signal {-code}" if code < 0 else f"exit code {code}"
    return InvalidInput(
        f"ended the process that read it, which had no answer ({how})",
        field=_FIELD,
        remedy=f"check the file; its reader may take {limits.memory_bytes} bytes",
        code=code,
    )
