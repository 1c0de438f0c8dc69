"""A backend whose models do what they should not: a model file is a line of words, the first of which names the deed.

It is a real backend, found by its entry point (see :func:`install`); what it does wrong, it does to its own process.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from leti.core.device import ModelFormat, Precision
from leti.core.errors import DeviceFault, InvalidInput, MeasurementFailed
from leti.core.measurement import OperatorTime
from leti.device_agents.backend import Backend, Offer, Session

MEGABYTE = 1 << 20


def install(folder: Path) -> Path:
    """Lay this module into a folder as an installed package; the folder belongs on PYTHONPATH."""
    about = folder / "leti_mischief-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leti-mischief\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[leti.backends]\nmischief = leti_mischief:MischiefBackend\n")
    (folder / "leti_mischief.py").write_text(Path(__file__).read_text())
    return folder


def spin(duration_us: float) -> None:
    """Keep the processor busy."""
    until_ns = time.perf_counter_ns() + duration_us * 1000
    while time.perf_counter_ns() < until_ns:
        pass


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    """Sleep inside C, and hold the interpreter meanwhile: no other thread of the process can do anything."""
    ctypes.PyDLL(None).sleep(1000)


def doze() -> None:
    time.sleep(1000)


def allocate() -> None:
    taken = []
    while True:
        taken.append(bytearray(b"x" * 16 * MEGABYTE))


def allocate_in_c() -> None:
    """Do what C++ does when ``new`` fails."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while address := libc.malloc(ctypes.c_size_t(16 * MEGABYTE)):
        ctypes.memset(address, 1, 16 * MEGABYTE)
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def share() -> None:
    """Take memory that no limit of the kernel counts."""
    taken = []
    while True:
        taken.append(mmap.mmap(-1, 16 * MEGABYTE))
        taken[-1].write(b"x" * 16 * MEGABYTE)
        time.sleep(0.01)


def garble() -> None:
    """Write into every pipe and file that the process has open for writing."""
    for number in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"\0\0\0\x05hello, this is no answer")


def hang_up() -> None:
    os.closerange(3, 64)
    doze()


def linger() -> None:
    """Die, and leave a process behind that keeps the pipes open."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], close_fds=False)
    print("left behind:", process.pid, file=sys.stderr, flush=True)
    os._exit(7)


def print_much() -> None:
    print("hello from Python", flush=True)
    for _ in range(100):
        os.write(1, b"\0\0\0\x02{}" * 1000)
    ctypes.CDLL(None).puts(b"hello from C")
    ctypes.CDLL(None).fflush(None)


def raise_value_error() -> None:
    raise ValueError("something that no backend may raise")


def refuse() -> None:
    raise MeasurementFailed("operator FOO is not known", field="model", failure="unsupported")


def be_broken() -> None:
    raise DeviceFault("the accelerator has fallen off the bus", failure="device-gone")


DEEDS: dict[str, Callable[[], None]] = {
    "segfault": segfault,
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "sys.exit": sys.exit,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "doze": doze,
    "allocate": allocate,
    "allocate-in-c": allocate_in_c,
    "share": share,
    "garble": garble,
    "hang-up": hang_up,
    "linger": linger,
    "print": print_much,
    "read": lambda: sys.stdin.read() and None,
    "raise": raise_value_error,
    "refuse": refuse,
    "broken": be_broken,
}


class MischiefBackend(Backend):
    """Runs "ok 300" for 300 µs, "segfault run" into the ground, and so on."""

    model_format: ClassVar[ModelFormat] = "tflite"
    sessions: ClassVar[int] = 0

    @classmethod
    def offers(cls) -> tuple[Offer, ...]:
        return (Offer("none"), Offer("segfault"), Offer("absent", reason="there is no such chip"))

    def __init__(self, *, delegate: str = "", threads: int = 1, precision: Precision = "fp32") -> None:
        if threads < 1:
            raise InvalidInput(f"must be 1 or more, not {threads}", field="threads")
        if delegate == "absent":
            raise InvalidInput("there is no such chip", field="delegate")
        if delegate == "segfault":
            print("no such chip", file=sys.stderr, flush=True)
            segfault()
        self.runtime, self.runtime_version = "mischief", "1.0"
        self.delegate, self.threads, self.precision = delegate or "none", threads, precision

    def load(self, model: bytes) -> Session:
        words = model.decode(errors="replace").split()
        if not words or words[0] not in {*DEEDS, "ok", "take", "leak", "demand", "jealous"}:
            raise MeasurementFailed("is no deed", field="model", failure="bad-model")
        return MischiefSession(words)

    def profile(self, model: bytes, *, runs: int = 10) -> tuple[OperatorTime, ...]:
        deed, when, *_ = [*model.decode().split(), "", ""]
        if when == "profile":
            DEEDS[deed]()
        return (OperatorTime(deed, "builtin", (100.0,) * runs),)


class MischiefSession(Session):
    """``words``: the deed, and when to do it (load, run), or a number."""

    kept: ClassVar[list[bytearray]] = []

    def __init__(self, words: list[str]) -> None:
        self.deed, self.argument, *_ = [*words, "", ""]
        self.duration_us = float(self.argument) if self.deed == "ok" else 200.0
        self.runs = 0
        self.closed = False
        self.memory = bytearray()
        if self.deed in ("take", "leak", "demand"):
            try:
                self.memory = bytearray(int(self.argument) * MEGABYTE)
                self.memory[::4096] = b"x" * len(self.memory[::4096])
            except MemoryError as error:
                if self.deed == "demand":  # as runtimes do that know one kind of refusal
                    raise MeasurementFailed("is no deed", field="model", failure="bad-model") from error
                raise
        if self.deed == "leak":
            self.kept.append(self.memory)
        MischiefBackend.sessions += 1
        if self.argument == "load":
            DEEDS[self.deed]()
        self.init_ms, self.first_inference_ms = 0.5, self.duration_us / 1000
        spin(self.duration_us)

    def invoke(self) -> None:
        self.runs += 1
        if self.deed == "jealous" and MischiefBackend.sessions > 2:
            segfault()
        if self.argument == "run" and self.runs >= 3:
            DEEDS[self.deed]()
        spin(self.duration_us)

    def close(self) -> None:
        if not self.closed:
            MischiefBackend.sessions -= 1
        self.closed = True
        self.memory = bytearray()
