"""Options of the commands that measure, and the benches that they name."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args
from urllib.parse import urlsplit

import typer

from leti.core.device import ModelPrecision, Precision
from leti.core.errors import DeviceFault, InvalidInput, LetiError
from leti.core.extras import needs

if TYPE_CHECKING:
    from leti.device_agents.android.adb import Adb
    from leti.device_agents.android.tool import Delegate
    from leti.device_agents.bench import Bench

ANDROID = "android"
"""Stands beside the names of runtimes on this machine: a phone behind adb."""

BackendOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend", help="Runtime to measure with, built in or a plugin's, or android; each that is found if left out."
    ),
]
DelegateOption = Annotated[
    list[str] | None,
    typer.Option("--delegate", help="What the runtime executes with, such as xnnpack or cuda; its usual one else."),
]
ThreadsOption = Annotated[
    list[int] | None, typer.Option("--threads", min=1, max=256, help="Threads of the runtime; one repeats best.")
]
PrecisionOption = Annotated[
    list[str] | None,
    typer.Option("--precision", help="What the runtime computes in: fp32 (else; a phone's GPU: fp16), bf16 or fp16."),
]
ModelPrecisionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model-precision",
        help="What networks are stored in: float32 (else), float16, dynamic_range or full_integer.",
    ),
]
DeviceName = Annotated[str, typer.Option("--device-name", help="Name of this machine; its host name where left out.")]
RealtimeOption = Annotated[
    bool, typer.Option("--realtime", help="Measure above other processes where the system permits it.")
]
SerialOption = Annotated[
    list[str] | None, typer.Option("--serial", help="A phone, as adb lists it; each that can be used if left out.")
]
BinaryOption = Annotated[
    Path | None,
    typer.Option(
        "--benchmark-binary", help="benchmark_model for the phone, needed with android.", exists=True, dir_okay=False
    ),
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", help="Cores of the phone to run on: big, little, mid, prime, or any.")
]
RestOption = Annotated[float, typer.Option("--rest", min=0.0, help="Seconds between processes on the phone.")]
MemoryLimit = Annotated[
    int | None,
    typer.Option("--memory-limit", min=16, help="MiB that the networks of a batch may take on this machine together."),
]
InvokeLimit = Annotated[
    float, typer.Option("--invoke-limit", min=0.001, help="Seconds that one run of a network may take on this machine.")
]
SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        help="Folder that keeps results until the service has them; else one for this service and user, "
        "below ~/.local/state/leti.",
        file_okay=False,
    ),
]
MaxJobs = Annotated[int, typer.Option("--max-jobs", min=1, max=64, help="Networks measured interleaved at a time.")]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the options say; what is empty is found out."""

    backends: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    precisions: tuple[Precision, ...] = ()
    model_precisions: tuple[ModelPrecision, ...] = ()
    device_name: str = ""
    realtime: bool = False
    serials: tuple[str, ...] = ()
    binary: Path | None = None
    cluster: str = "big"
    rest_s: float = 10.0
    memory_limit_mib: int | None = None
    invoke_limit_s: float = 60.0

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes of this machine among the backends."""
        return tuple(name for name in self.backends if name != ANDROID)

    @property
    def wants_phones(self) -> bool:
        """Whether phones are to be measured: they are asked for, or there is a program to measure them with."""
        return ANDROID in self.backends or bool(self.serials) or (not self.backends and self.binary is not None)

    @property
    def wants_desktop(self) -> bool:
        """Whether this machine is to be measured."""
        return bool(self.runtimes) or not (self.backends or self.serials)

    @classmethod
    def read(
        cls,
        *,
        backend: Sequence[str] | None,
        delegate: Sequence[str] | None,
        threads: Sequence[int] | None,
        precision: Sequence[str] | None,
        model_precision: Sequence[str] | None,
        device_name: str,
        realtime: bool,
        serial: Sequence[str] | None,
        benchmark_binary: Path | None,
        cluster: str,
        rest_s: float,
        memory_limit: int | None,
        invoke_limit: float,
    ) -> BenchOptions:
        """Return what the options of a command say; raise :class:`InvalidInput` for a precision that there is not."""
        for name, given, known in (
            ("--precision", precision, get_args(Precision)),
            ("--model-precision", model_precision, get_args(ModelPrecision)),
        ):
            for each in given or ():
                if each not in known:
                    raise InvalidInput(f"there is no {each[:80]!r}", field=name, remedy=f"one of {', '.join(known)}")
        return cls(
            tuple(backend or ()),
            tuple(delegate or ()),
            tuple(threads or ()),
            cast("tuple[Precision, ...]", tuple(precision or ())),
            cast("tuple[ModelPrecision, ...]", tuple(model_precision or ())),
            device_name,
            realtime,
            tuple(serial or ()),
            benchmark_binary,
            cluster,
            rest_s,
            memory_limit,
            invoke_limit,
        )


@contextmanager
def open_benches(options: BenchOptions) -> Iterator[list[Bench]]:
    """Yield the benches that the options name, or that are found; close them in the end.

    Raises :class:`~leti.core.errors.InvalidInput` where something that is named cannot be had, with the reason.
    """
    with ExitStack() as stack:
        benches: list[Bench] = []
        for bench in _benches(options):
            stack.callback(bench.close)
            benches.append(bench)
        yield benches


def _benches(options: BenchOptions) -> Iterator[Bench]:
    if options.wants_desktop:
        yield from _desktop(options)
    if options.wants_phones:
        yield from _phones(options)


def _desktop(options: BenchOptions) -> Iterator[Bench]:
    with needs("agent"):
        from leti.device_agents.desktop.bench import DesktopBench
        from leti.device_agents.discovery import Wish, ways

    wish = Wish(
        options.runtimes,
        options.delegates,
        options.threads or (1,),
        options.precisions or ("fp32",),
        options.model_precisions or ("float32",),
    )
    for way in ways(wish):
        yield DesktopBench(
            way.backend,
            delegate=way.delegate,
            threads=way.threads,
            precision=way.precision,
            model_precision=way.model_precision,
            name=options.device_name,
            realtime=options.realtime,
            memory_limit_bytes=None if options.memory_limit_mib is None else options.memory_limit_mib * 2**20,
            invoke_limit_s=options.invoke_limit_s,
        )


def _phones(options: BenchOptions) -> Iterator[Bench]:
    """Yield a bench for each way to run on each phone that is named, or on each that can be used."""
    from leti.device_agents.android.adb import Adb
    from leti.device_agents.android.bench import AndroidBench

    if options.binary is None:
        raise InvalidInput(
            "must be given to measure on a phone", field="--benchmark-binary", remedy="benchmark_model of TFLite for it"
        )
    executes = _phone_ways(options)
    adb = Adb()
    serials = options.serials or _usable_phones(adb, needed=not options.wants_desktop)
    ways = itertools.product(serials, executes, options.threads or (1,), options.model_precisions or ("float32",))
    refused: dict[str, LetiError] = {}
    for serial, (delegate, precision), threads, model_precision in ways:
        try:
            bench = AndroidBench(
                serial,
                options.binary,
                delegate=delegate,
                threads=threads,
                cluster=options.cluster,
                model_precision=model_precision,
                fp16=precision == "fp16",
                rest_s=options.rest_s,
                adb=adb,
            )
        except (DeviceFault, InvalidInput) as error:
            refused[serial] = error
            if options.serials or (len(refused) == len(serials) and not options.wants_desktop):
                raise
            typer.echo(f"{serial} cannot be used: {error}", err=True)
        else:
            yield bench


def _usable_phones(adb: Adb, *, needed: bool) -> list[str]:
    """Return the serials of the phones that can be used, and say why the others cannot."""
    from leti.device_agents.android.phones import list_phones

    listed = list_phones(adb)
    for phone in listed:
        if phone.reason:
            typer.echo(f"{phone.name} ({phone.serial}) cannot be used: {phone.reason}", err=True)
    usable = [phone.serial for phone in listed if not phone.reason]
    if needed and not usable:
        raise InvalidInput(
            "adb lists no phone that can be used", field="--backend", remedy="see `leti devices`; plug one in"
        )
    return usable


def _phone_ways(options: BenchOptions) -> list[tuple[Delegate, Precision]]:
    """Return the delegates that are wanted, each with what it is to compute in."""
    from leti.device_agents.android.phone import PRECISIONS

    found: list[tuple[Delegate, Precision]] = []
    for delegate in options.delegates or ("xnnpack",):
        if delegate not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise InvalidInput(f"phones have no {delegate[:80]!r}", field="--delegate", remedy=f"one of {known}")
        offered = PRECISIONS[delegate]
        wanted = [each for each in offered if each in (options.precisions or offered[:1])]
        if not wanted:
            asked = " or ".join(options.precisions)
            raise InvalidInput(
                f"{delegate} does not compute in {asked} on phones",
                field="--precision",
                remedy=f"one of {', '.join(offered)}",
            )
        found += [(cast("Delegate", delegate), precision) for precision in wanted]
    return found


def by_device(benches: Sequence[Bench]) -> dict[str, list[Bench]]:
    """Return the benches by the name of their device."""
    found: defaultdict[str, list[Bench]] = defaultdict(list)
    for bench in benches:
        found[bench.platform.device.name].append(bench)
    return dict(found)


def default_spool(url: str) -> Path:
    """Return the folder that keeps results for the service at ``url``: the same from wherever a command is started."""
    state = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_STATE_HOME")
    home = Path(state) if state else Path.home() / ".local" / "state"
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return home / "leti" / "spool" / slug(f"{parts.hostname}{port}{parts.path}".rstrip("/"))


def slug(name: str) -> str:
    """Return a name as that of a folder; names that differ are folders that differ."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set, so that what is at work ends in order; the second one ends it."""
    stop = threading.Event()

    def _stop(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before: dict[int, Any] = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
