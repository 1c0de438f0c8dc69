"""One batch on one phone, in the order of its steps: clean, push, verify, wake, gate, run; and everything undone."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from leti.core.errors import DeviceFault
from leti.core.measurement import OperatorTime
from leti.device_agents.android import staging
from leti.device_agents.android.adb import BACK_S, RECONNECTS, Link, quoted
from leti.device_agents.android.benchmark_model import Report, check_delegation, parse, unreadable
from leti.device_agents.android.faults import device_fault
from leti.device_agents.android.gate import Gate, State, pause
from leti.device_agents.android.operator_profile import parse_profile
from leti.device_agents.android.phone import Phone, same_phone
from leti.device_agents.android.staging import LINK_FAULTS, Folder
from leti.device_agents.android.tool import BINARY, MEMORY_LOOPS, PROFILE, PROFILE_LOOPS, Setting, Tool
from leti.device_agents.bench import KeepGoing, Waiting
from leti.device_agents.disk import written_to

REDOS: Final = 3
"""Times that a process is run again whose phone was disturbed, or lost, meanwhile."""
SURROUNDINGS: Final = {"airplane": "global airplane_mode_on", "brightness": "system screen_brightness"}
MOST_PROFILE_BYTES: Final = 8 * 2**20

Flags = Callable[[], tuple[str, ...]]
"""The flags of a process, asked for when it starts: after a lost link the folder is another."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Binary:
    """A benchmark_model on this machine, and its SHA-256 when it was first seen."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One process that ran undisturbed: what it said, the phone before and after, its command line, its seconds."""

    report: Report
    before: State
    after: State
    command: tuple[str, ...]
    delegate_line: str
    elapsed_s: float


@final
class PhoneSession:
    """The models of a batch on a phone, by file name; :meth:`open` first, :meth:`close` whatever happens.

    ``rest_s`` is the pause between two processes. ``effort`` counts the seconds of each part, ``redone`` the reasons
    for which processes of the batch were run again, ``surroundings`` what is noted and not changed.
    """

    def __init__(
        self,
        link: Link,
        phone: Phone,
        binary: Binary,
        models: Mapping[str, bytes],
        setting: Setting,
        gate: Gate,
        *,
        rest_s: float,
        keep_going: KeepGoing,
        waiting: Waiting,
        back_s: float = BACK_S,
    ) -> None:
        self._link = link
        self._phone = phone
        self._binary = binary
        self._models = dict(models)
        self._setting = setting
        self._gate = gate
        self._rest_s = rest_s
        self._keep_going = keep_going
        self._waiting = waiting
        self._back_s = back_s
        self._folder: Folder | None = None
        self._tool: Tool | None = None
        self._awake: str | None = None
        self._ended_s: float | None = None
        self.surroundings: dict[str, str] = {}
        self._unknown_flags: set[str] = set()
        self.effort: dict[str, float] = defaultdict(float)
        self.redone: list[str] = []

    @property
    def tool(self) -> Tool:
        """The binary on the phone."""
        assert self._tool is not None, "open() comes first"  # noqa: S101
        return self._tool

    def open(self, *, reconnects: int | None = RECONNECTS) -> None:
        """Make the phone ready: connect, clean, push and verify everything, ask the binary for help, stay awake."""
        with self._timed("start"):
            self._link.ready(self._back_s, reconnects=reconnects, keep_going=self._keep_going)
            self._booted()
            if stale := staging.clean(self._link):
                log.info("%s: took away %s", self._link.serial, ", ".join(stale))
            self._stage()

    def run(self, model: str) -> Sample:
        """Run one process on ``model``, behind the gate; a run that was disturbed is done again.

        Raises :class:`~leti.core.errors.MeasurementFailed` with what the model failed with,
        :class:`~leti.core.errors.DeviceFault` where the phone stayed unfit or away, and
        :class:`~leti.device_agents.android.process.Cut` once nobody waits any more.
        """
        return self._undisturbed(lambda: self.tool.flags(model))

    def memory(self, model: str) -> Report:
        """Return what a short process says of its memory, which it watches all the while."""
        flag = "--report_peak_memory_footprint=true"
        sample = self._undisturbed(lambda: (*self.tool.flags(model, MEMORY_LOOPS), flag))
        self.effort["profile"] += sample.elapsed_s
        return sample.report

    def profile(self, model: str) -> tuple[OperatorTime, ...]:
        """Return the times of the operators, from a process of its own; none where the tool does not tell."""
        if not self.tool.profiles:
            return ()
        flags: Flags = lambda: (*self.tool.flags(model, PROFILE_LOOPS), *self.tool.profile_flags())  # noqa: E731
        self.effort["profile"] += self._undisturbed(flags).elapsed_s
        with self._timed("profile"), tempfile.TemporaryDirectory(prefix="leti-") as folder:
            remote = f"{self._path}/{PROFILE}"
            size = self._link.shell(f"wc -c <{quoted(remote)}")
            known = re.fullmatch(r"\s*(\d{1,15})\s*", size.stdout)
            if size.rc or known is None or int(known[1]) > MOST_PROFILE_BYTES:
                raise unreadable(size.text, "it wrote no table of operators")
            local = Path(folder, PROFILE)
            self._link.pull(remote, local)
            return parse_profile(local.read_text(errors="replace"))

    def close(self) -> None:
        """Undo everything; where the phone is away, the next batch there cleans up."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            if self._tool is not None:
                self._tool.kill()
            if self._awake is not None:
                staging.sleep_as_before(self._link, self._awake)
            folder.remove()
        except DeviceFault as fault:
            log.warning("%s is left on %s until the next batch: %s", folder.path, self._link.serial, fault)

    @property
    def _path(self) -> str:
        assert self._folder is not None, "open() comes first"  # noqa: S101
        return self._folder.path

    def _booted(self) -> None:
        """Wait until Android has started: a phone that was switched on again answers before that."""
        deadline_s = time.monotonic() + self._back_s
        while True:
            try:
                return same_phone(self._link, self._phone)
            except DeviceFault as fault:
                if fault.details.get("fault") != "not-booted" or time.monotonic() >= deadline_s:
                    raise
            pause(1.0, self._keep_going)

    def _stage(self) -> None:
        self._folder = folder = Folder(self._link)
        size = self._binary.path.stat().st_size + sum(map(len, self._models.values()))
        staging.check_space(self._link, size)
        folder.make()
        folder.put(self._binary.path, BINARY, self._binary.sha256, keep_going=self._keep_going, executable=True)
        with tempfile.TemporaryDirectory(prefix="leti-") as local:
            for name, model in self._models.items():
                path = Path(local, name)
                with written_to(path.parent):
                    path.write_bytes(model)
                folder.put(path, name, sha256(model).hexdigest(), keep_going=self._keep_going)
        self._tool = Tool(self._link, folder.path, self._setting)
        self._awake = staging.keep_awake(self._link, folder)
        noted = self._link.answers(*(f"settings get {place}" for place in SURROUNDINGS.values()))
        self.surroundings = dict(zip(SURROUNDINGS, (value[:50] for value in noted), strict=True))

    def _undisturbed(self, flags: Flags) -> Sample:
        for attempt in range(REDOS + 1):
            try:
                found = self._once(flags)
            except DeviceFault as fault:
                if fault.details.get("fault") not in LINK_FAULTS or attempt == REDOS:
                    raise
                found = str(fault)
                log.warning("%s: %s; connecting again", self._link.serial, fault)
                self._recover(found)
            if isinstance(found, Sample):
                return found
            log.info("%s: run again: %s", self._link.serial, found)
            self.redone.append(found)
        raise device_fault("hot", f"disturbed {REDOS + 1} times: {self.redone[-1]}")

    def _once(self, flags: Flags) -> Sample | str:
        """Rest, pass the gate, and run one process; return what it said, or what disturbed it."""
        if self._ended_s is not None:
            with self._timed("rest"):
                pause(max(0.0, self._ended_s + self._rest_s - time.monotonic()), self._keep_going)
        with self._timed("gates"):
            before = self._gate.wait(self._keep_going, self._waiting)
        command = self.tool.command(flags())
        try:
            ran, elapsed_s = self.tool.run(command, self._keep_going)
        finally:
            self._ended_s = time.monotonic()
        after = self._gate.read()
        if disturbance := self._gate.disturbed(before, after):
            return disturbance
        report = parse(ran.text)
        if unknown := " ".join(sorted(set(report.unconsumed) - self._unknown_flags)):
            self._unknown_flags.update(report.unconsumed)
            log.warning("benchmark_model does not know %s", unknown)
        return Sample(report, before, after, command, check_delegation(report, self._setting.delegate), elapsed_s)

    def _recover(self, reason: str) -> None:
        """Connect again and begin anew in a fresh folder: what the lost process left cannot be trusted."""
        self._waiting(reason)
        self.open(reconnects=None)
        self._waiting("")

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            self.effort[part] += time.monotonic() - start_s
