"""benchmark_model on a phone: its flags, its generation, and one process of it, pinned and limited in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final

from leti.core.errors import DeviceFault, InvalidInput
from leti.device_agents.android.adb import KeepGoing, Link, quoted
from leti.device_agents.android.benchmark_model import Generation, check, cleaned
from leti.device_agents.android.faults import device_fault, model_failure
from leti.device_agents.android.phone import Cluster
from leti.device_agents.android.process import Ran

Delegate = Literal["xnnpack", "none", "gpu", "nnapi"]
BINARY: Final = "benchmark_model"
GRACE_S: Final = 30.0
"""Seconds that this machine waits longer than the phone."""
PROFILE: Final = "operators.csv"

DELEGATE_FLAGS: Final[Mapping[Generation, Mapping[Delegate, tuple[str, ...]]]] = MappingProxyType(
    {
        "interpreter": {
            "xnnpack": ("--use_xnnpack=true",),
            "none": ("--use_xnnpack=false",),
            "gpu": ("--use_gpu=true", "--gpu_precision_loss_allowed={fp16}", "--require_full_delegation=true"),
            "nnapi": ("--use_nnapi=true", "--require_full_delegation=true"),
        },
        "compiled-model": {
            "xnnpack": ("--use_cpu=true",),
            "gpu": (
                *("--use_gpu=true", "--use_cpu=false", "--allow_fp16={fp16}", "--require_full_delegation=true"),
                "--verbose=true",
            ),
        },
    }
)
"""How each generation of the tool is told what to run on."""


@dataclass(frozen=True, slots=True)
class Loops:
    """How long one process runs: at least as many runs and seconds, and no loop longer than ``max_secs``."""

    warmup_runs: int = 10
    warmup_min_secs: float = 0.5
    num_runs: int = 50
    min_secs: float = 1.0
    max_secs: float = 60.0

    def __post_init__(self) -> None:
        """Refuse loops without a run or an end."""
        for name in ("warmup_runs", "num_runs"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise InvalidInput(f"must be from 1 to 100000, not {getattr(self, name)}", field=name)
        if not 0 < self.max_secs <= 3600:
            raise InvalidInput(f"must be more than 0 and at most 3600, not {self.max_secs}", field="max_secs")

    @property
    def limit_s(self) -> float:
        """When the phone kills a process: both loops may take ``max_secs``, and starting some more."""
        return 2 * self.max_secs + 60

    def flags(self) -> tuple[str, ...]:
        """Return them as flags."""
        return (
            f"--warmup_runs={self.warmup_runs}",
            f"--warmup_min_secs={self.warmup_min_secs:g}",
            f"--num_runs={self.num_runs}",
            f"--min_secs={self.min_secs:g}",
            f"--max_secs={self.max_secs:g}",
        )


MEMORY_LOOPS: Final = Loops(warmup_runs=1, warmup_min_secs=0, num_runs=1, min_secs=0)
PROFILE_LOOPS: Final = Loops(warmup_runs=2, warmup_min_secs=0, num_runs=20, min_secs=0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What every process of a bench has in common."""

    delegate: Delegate
    threads: int
    cluster: Cluster
    fp16: bool = True
    loops: Loops = Loops()


@final
class Tool:
    """The binary in one folder on the phone, which has been asked for help: that tells its generation and its flags.

    Raises :class:`~leti.core.errors.DeviceFault` (fault ``no-tool``) where it cannot run there, or lacks the delegate.
    """

    def __init__(self, link: Link, folder: str, setting: Setting) -> None:
        self._link = link
        self._folder = folder
        self._setting = setting
        ran = link.shell(f"cd {quoted(folder)} && ./{BINARY} --help")
        # Help is an error to the tool; what cannot run at all says so otherwise.
        if ran.rc > 1 or "--graph" not in ran.text:
            raise device_fault("no-tool", " ".join(cleaned(ran.text).split())[-300:], rc=ran.rc)
        self._help = ran.text
        fresh = "use_npu" in self._help or "dispatch_library_path" in self._help
        self.generation: Generation = "compiled-model" if fresh else "interpreter"
        if setting.delegate not in DELEGATE_FLAGS[self.generation]:
            lacks = f"a benchmark_model of the {self.generation} cannot run with delegate {setting.delegate}"
            raise device_fault("no-tool", lacks)

    @property
    def profiles(self) -> bool:
        """Whether it can write the times of operators."""
        return self.generation == "interpreter"

    def flags(self, model: str, loops: Loops | None = None) -> tuple[str, ...]:
        """Return the flags to run ``model``, a file of the folder."""
        setting = self._setting
        fp16 = "true" if setting.fp16 else "false"
        return (
            f"--graph={self._folder}/{model}",
            f"--num_threads={setting.threads}",
            *(setting.loops if loops is None else loops).flags(),
            *(flag.format(fp16=fp16) for flag in DELEGATE_FLAGS[self.generation][setting.delegate]),
        )

    def profile_flags(self) -> tuple[str, ...]:
        """Return the flags that make it write the times of operators to :data:`PROFILE`."""
        path = f"{self._folder}/{PROFILE}"
        if "profiling_output_csv_file" in self._help and "op_profiling_output_file" not in self._help:
            return "--enable_op_profiling=true", f"--profiling_output_csv_file={path}"
        return "--enable_op_profiling=true", "--op_profiling_output_mode=csv", f"--op_profiling_output_file={path}"

    def command(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line of one process: ``taskset`` with the mask where it is pinned, binary, flags."""
        cluster = self._setting.cluster
        pinned = ("taskset", cluster.mask) if cluster.cores else ()
        return (*pinned, f"./{BINARY}", *flags)

    def run(self, command: tuple[str, ...], keep_going: KeepGoing) -> tuple[Ran, float]:
        """Run one process to its end; return what it wrote and the seconds that it took.

        The phone kills it when it takes too long, and this machine, some time later, where even that fails.
        Raises :class:`~leti.core.errors.MeasurementFailed` with what it failed with,
        :class:`~leti.core.errors.DeviceFault` where the link was lost, and
        :class:`~leti.device_agents.android.process.Cut` once ``keep_going`` says no.
        """
        limit_s = self._setting.loops.limit_s
        # The shell writes down its number, then becomes the tool.
        inner = f"echo $$ >pid; exec {quoted(*command)}"
        line = f"cd {quoted(self._folder)} && {quoted('timeout', '-s', 'KILL', f'{limit_s:.0f}', 'sh', '-c', inner)}"
        start_s = time.monotonic()
        try:
            ran = self._link.shell(line, limit_s + GRACE_S, keep_going=keep_going)
        except DeviceFault as fault:
            why = fault.details.get("cut")
            if why is None:
                raise
            self.kill()  # raises in its turn where the phone does not answer at all
            if why == "output":
                raise model_failure("other", "benchmark_model writes without end", fault="unreadable") from fault
            raise model_failure("timeout", f"still running after {limit_s + GRACE_S:.0f} s") from fault
        elapsed_s = time.monotonic() - start_s
        check(ran, elapsed_s, limit_s)
        return ran, elapsed_s

    def kill(self) -> None:
        """End the process that was started last, if it still runs."""
        self._link.shell(
            f"cd {quoted(self._folder)} && read -r p <pid && "
            f'grep -q {quoted(self._folder)} "/proc/$p/cmdline" && kill -9 "$p"',
            10.0,
        )
