"""A phone as it says itself: what it is, its clusters of cores, and what a network can run on there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from leti.core.device import Device, Precision
from leti.core.errors import InvalidInput
from leti.device_agents.android.adb import Link, is_network
from leti.device_agents.android.faults import device_fault
from leti.device_agents.backend import Offer

PROPERTIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "serial_number": ("ro.serialno", "ro.boot.serialno"),
        "model": ("ro.product.model", "ro.product.name"),
        "manufacturer": ("ro.product.manufacturer",),
        "soc": ("ro.soc.model", "ro.hardware.chipname", "ro.board.platform", "ro.hardware"),
        "abi": ("ro.product.cpu.abi",),
        "sdk": ("ro.build.version.sdk",),
        "release": ("ro.build.version.release",),
        "fingerprint": ("ro.build.fingerprint",),
        "booted": ("sys.boot_completed",),
        "opengl": ("ro.opengles.version",),
    }
)
"""Where a phone says each thing of itself; the first property that is set counts."""

GPU_LIBRARIES: Final = tuple(
    f"{folder}/{library}"
    for folder in ("/vendor/lib64", "/vendor/lib", "/system/vendor/lib64", "/system/lib64", "/vendor/lib64/egl")
    for library in ("libOpenCL.so", "libOpenCL-pixel.so", "libPVROCL.so", "libGLES_mali.so")
)
OPENGL_ES_3_1: Final = 0x30001
NNAPI_SINCE: Final = 27

PRECISIONS: Final[Mapping[str, tuple[Precision, ...]]] = MappingProxyType(
    {"xnnpack": ("fp32",), "none": ("fp32",), "gpu": ("fp16", "fp32"), "nnapi": ("fp32",)}
)
"""What each delegate computes in, the usual first."""

CLUSTER_NAMES: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {1: ("big",), 2: ("little", "big"), 3: ("little", "big", "prime"), 4: ("little", "mid", "big", "prime")}
)
"""Names of clusters from the slowest to the fastest, by how many there are."""

MOST_CORES: Final = 1024
"""Numbers beyond this are no cores."""

MOST_CHARACTERS: Final = 200
"""What is kept of each thing that a phone says."""

ANY: Final = "any"
"""The cluster of those who do not pin: all cores."""

_CORES: Final = (
    "for c in /sys/devices/system/cpu/cpu[0-9]*; do f=-; k=-;"
    " read -r f <$c/cpufreq/cpuinfo_max_freq; read -r k <$c/cpu_capacity; echo ${c##*/cpu} ${f:--} ${k:--}; done"
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Cores of one kind: their highest clock and their capacity, where the system tells; why they cannot be pinned."""

    name: str
    cores: tuple[int, ...]
    max_mhz: float | None = None
    capacity: int | None = None
    reason: str = ""

    @property
    def mask(self) -> str:
        """The cores as ``taskset`` takes them: hexadecimal, without a prefix."""
        return f"{sum(1 << core for core in self.cores):x}"


@dataclass(frozen=True, slots=True)
class Phone:
    """What a phone says of itself. ``serial`` is adb's name for it, ``serial_number`` its own.

    ``asleep`` counts the cores that are in no cluster, because they are switched off now.
    """

    serial: str
    serial_number: str
    model: str
    manufacturer: str
    soc: str
    abi: str
    sdk: int
    release: str
    fingerprint: str
    booted: bool
    clusters: tuple[Cluster, ...]
    delegates: tuple[Offer, ...]
    features: tuple[str, ...] = ()
    asleep: int = 0

    @property
    def cores(self) -> tuple[int, ...]:
        """All cores that are awake."""
        return tuple(core for each in self.clusters for core in each.cores)

    def device(self, name: str = "") -> Device:
        """Return it as a device; ``name`` defaults to model and serial number."""
        return Device(
            name=name or f"{self.model} {self.serial_number}"[:200],
            kind="android",
            soc=self.soc,
            cores=max(1, len(self.cores) + self.asleep),  # the same device, however many are awake
            os=f"Android {self.release} ({self.abi})"[:200],
        )

    def cluster(self, name: str, threads: int = 1) -> Cluster:
        """Return the cluster of this name (:data:`ANY` for all cores, not pinned) to run ``threads`` threads on.

        Raises :class:`~leti.core.errors.InvalidInput` where there is none, or it cannot be pinned, or is too small.
        """
        if threads < 1:
            raise InvalidInput(f"must be 1 or more, not {threads}", field="threads")
        if name == ANY:
            return Cluster(ANY, ())
        usable = {each.name: each for each in self.clusters if not each.reason}
        remedy = f"one of {', '.join((*usable, ANY))}"
        found = next((each for each in self.clusters if each.name == name), None)
        if found is None or found.reason:
            why = f"there is no cluster {name[:40]!r}" if found is None else f"{name} cannot be used: {found.reason}"
            raise InvalidInput(why, field="cluster", remedy=remedy)
        if threads > len(found.cores):
            raise InvalidInput(f"cluster {name} has {len(found.cores)} cores, not {threads}", field="threads")
        return found


def identify(link: Link) -> Phone:
    """Ask a phone that is ready what it is; its clusters are tried with ``taskset``.

    Raises :class:`~leti.core.errors.DeviceFault`: ``not-booted`` where Android has not started yet, and those of
    the link.
    """
    names = [name for places in PROPERTIES.values() for name in places]
    libraries = " ".join(GPU_LIBRARIES)
    *values, online, cores, found = link.answers(
        *(f"getprop {name}" for name in names),
        "cat /sys/devices/system/cpu/online",
        _CORES,
        f"for f in {libraries}; do [ -e $f ] && echo $f; done",
    )
    said = {name: " ".join(value.split())[:MOST_CHARACTERS] for name, value in zip(names, values, strict=True)}
    own = {key: next((said[place] for place in places if said[place]), "") for key, places in PROPERTIES.items()}
    if own["booted"] != "1":
        raise device_fault("not-booted", link.serial, serial=link.serial)
    sdk = _whole(own["sdk"]) or 0
    clusters = clusters_of(cores, online)
    in_all = sum(len(each.cores) for each in clusters_of(cores, ""))
    return Phone(
        serial=link.serial,
        serial_number=own["serial_number"] or link.serial,
        model=own["model"] or "phone",
        manufacturer=own["manufacturer"],
        soc=own["soc"] or "unknown",
        abi=own["abi"] or "unknown",
        sdk=sdk,
        release=own["release"] or "unknown",
        fingerprint=own["fingerprint"],
        booted=True,
        clusters=_tried(link, clusters),
        delegates=delegates_of(sdk, found.split(), _whole(own["opengl"]) or 0),
        features=link.features(),
        asleep=max(0, in_all - sum(len(each.cores) for each in clusters)),
    )


def clusters_of(cores: str, online: str) -> tuple[Cluster, ...]:
    """Return the clusters, the slowest first, in lines of core, highest clock (kHz) and capacity ("-" if unknown).

    Cores that are not ``online`` ("0-3,6") cannot be pinned to, and are left out.
    """
    awake = core_list(online)
    groups: dict[tuple[int, int], list[int]] = {}
    for line in cores.splitlines():
        words = line.split()
        core = _whole(words[0]) if len(words) == 3 else None
        if core is not None and core < MOST_CORES and (not awake or core in awake):
            groups.setdefault((_whole(words[2]) or 0, _whole(words[1]) or 0), []).append(core)
    if not groups and awake:
        groups[0, 0] = list(awake)
    names = CLUSTER_NAMES.get(len(groups)) or tuple(f"cluster{i}" for i in range(len(groups)))
    return tuple(
        Cluster(name, tuple(sorted(members)), khz / 1e3 if khz else None, capacity or None)
        for name, ((capacity, khz), members) in zip(names, sorted(groups.items()), strict=True)
    )


def core_list(text: str) -> tuple[int, ...]:
    """Return the cores that a list of the kernel names: ``0-3,6`` is 0, 1, 2, 3 and 6."""
    found: set[int] = set()
    for part in text.strip().split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if match:
            found |= set(range(int(match[1]), min(int(match[2] or match[1]) + 1, MOST_CORES)))
    return tuple(sorted(found))


def delegates_of(sdk: int, gpu_libraries: Sequence[str], opengl: int) -> tuple[Offer, ...]:
    """Return what is worth trying on such a phone, the usual first; only a run tells what works."""
    no_gpu = "" if gpu_libraries or opengl >= OPENGL_ES_3_1 else "neither OpenCL nor OpenGL ES 3.1 was found"
    no_nnapi = "" if sdk >= NNAPI_SINCE else f"Android has it since SDK {NNAPI_SINCE}, this is {sdk}"
    reasons = {"gpu": no_gpu, "nnapi": no_nnapi}
    return tuple(Offer(name, precisions, reasons.get(name, "")) for name, precisions in PRECISIONS.items())


def same_phone(link: Link, phone: Phone) -> None:
    """Check that ``link`` still leads to ``phone``, which has booted.

    An address may have gone to another phone meanwhile. Raises :class:`~leti.core.errors.DeviceFault`.
    """
    *numbers, booted = link.answers(
        *(f"getprop {name}" for name in PROPERTIES["serial_number"]), "getprop sys.boot_completed"
    )
    number = next((each for each in numbers if each), "") or link.serial
    if number != phone.serial_number:
        raise device_fault("another-phone", f"{number} instead of {phone.serial_number}", serial=link.serial)
    if booted != "1":
        raise device_fault("not-booted", link.serial, serial=link.serial)


def preferred(serials: Sequence[str]) -> str:
    """Return the serial to reach a phone by that has several: a cable rather than the network."""
    return min(serials, key=lambda serial: (is_network(serial), serial))


def _tried(link: Link, clusters: Sequence[Cluster]) -> tuple[Cluster, ...]:
    """Return ``clusters`` with the reason why some cannot be pinned to, found by doing it."""
    tried = []
    for each in clusters:
        ran = link.shell(f"taskset {each.mask} true")
        reason = "" if ran.rc == 0 else " ".join(ran.text.split())[:200] or f"taskset ended with {ran.rc}"
        tried.append(Cluster(each.name, each.cores, each.max_mhz, each.capacity, reason))
    return tuple(tried)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,12}", text) else None
