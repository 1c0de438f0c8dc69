"""What a bench and its measuring child say to each other: frames of JSON over a pair of pipes, and a page of memory.

A frame is its length (4 bytes, big-endian) and so many bytes of JSON. While a batch runs, nothing is said: the child
keeps its :class:`Progress` in a small file that both sides have mapped, where it costs no system call and wakes nobody.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, final

from leti.core.codec import from_json, to_json
from leti.core.device import ModelFormat, Precision
from leti.core.errors import Detail, InvalidInput, LetiError, error_classes
from leti.core.measurement import Conditions, OperatorTime, Pass
from leti.device_agents.timing import Protocol

HEAD: Final = struct.Struct(">I")
MOST_BYTES: Final = 256 * 1024 * 1024
"""Length of a frame beyond which it is none."""

REFERENCE: Final = -1
"""The reference network's place among the models of a batch."""


# --- what the bench says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setup:
    """What the child is to be, said once: a backend, where it runs, how much memory it may take, how it measures."""

    backend: str
    delegate: str
    threads: int
    precision: Precision
    affinity: tuple[int, ...]
    realtime: bool
    memory_limit_bytes: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """Model files to be measured together beside that of the reference, in an order drawn by ``seed``.

    With ``profile`` there is no reference: the times of the operators of the only model are wanted.
    """

    models: tuple[str, ...]
    reference: str = ""
    seed: int = 0
    profile: bool = False


# --- what the child answers -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The child is ready: what its backend is, and whether real-time priority was granted."""

    runtime: str
    runtime_version: str
    delegate: str
    threads: int
    precision: Precision
    model_format: ModelFormat
    realtime: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of the tree: its kind and everything that it says."""

    kind: str
    message: str
    field: str = ""
    remedy: str = ""
    details: dict[str, Detail] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, error: LetiError) -> Fault:
        """Return what an error says."""
        return cls(error.kind, error.message, error.field, error.remedy, dict(error.details))

    def error(self) -> LetiError:
        """Return the error again."""
        cls = error_classes().get(self.kind, LetiError)
        return cls(self.message, field=self.field, remedy=self.remedy, **self.details)


@dataclass(frozen=True, slots=True)
class Measured:
    """One model, timed."""

    passes: tuple[Pass, ...]
    noisy: bool
    init_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each model, the conditions around, where the time went (s), and the memory that the child keeps.

    ``resident_bytes`` is ``None`` where the system does not tell.
    """

    items: tuple[Measured | Fault, ...]
    before: Conditions
    after: Conditions
    measured_at: str
    effort_s: dict[str, float]
    resident_bytes: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of these; none of them if the child was asked to stop."""

    hello: Hello | None = None
    report: Report | None = None
    profile: tuple[OperatorTime, ...] | None = None
    fault: Fault | None = None


def packed(message: Setup | Request | Answer) -> bytes:
    """Return a message as a frame."""
    body = json.dumps(to_json(message), separators=(",", ":")).encode()
    return HEAD.pack(len(body)) + body


def answer_of(body: bytes | bytearray) -> Answer:
    """Return an answer from the body of a frame; raise :class:`InvalidInput` for anything else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("is not JSON", field="answer") from error
    return from_json(Answer, data, "answer")


def setup_of(body: bytes) -> Setup:
    """Return what the bench says first."""
    return from_json(Setup, json.loads(body), "setup")


def request_of(body: bytes) -> Request:
    """Return what the bench asks for."""
    return from_json(Request, json.loads(body), "request")


# --- progress ---------------------------------------------------------------------------------------------------------


class Phase(IntEnum):
    """What the child is at."""

    START = 0
    LOAD = 1
    MEASURE = 2
    PROFILE = 3


PHASE, MODEL, STEPS, SAMPLED_NS, STOP = range(5)
"""The cells of the page, each a whole number of 8 bytes."""


@final
class Progress:
    """Where the child is: its phase, the model at hand, steps and timed nanoseconds so far; and whether to stop.

    ``cells`` are written in place: by the child all but ``STOP``, which is the bench's.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.cells = memoryview(self._page).cast("q")

    @classmethod
    def create(cls, path: Path) -> Progress:
        """Return a new page in a new file."""
        path.write_bytes(bytes(mmap.PAGESIZE))
        return cls(path)

    def enter(self, phase: Phase, model: int = REFERENCE) -> None:
        """Say that a phase begins with a model."""
        self.cells[PHASE], self.cells[MODEL] = phase, model
        self.cells[STEPS] += 1

    @property
    def phase(self) -> Phase:
        """Return what the child is at; one whose memory is spoilt may have written anything."""
        try:
            return Phase(self.cells[PHASE])
        except ValueError:
            return Phase.MEASURE

    def close(self) -> None:
        """Give the page back; closing twice is harmless."""
        self.cells.release()
        self._page.close()
