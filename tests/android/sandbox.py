"""The inside of a phone: Android's shell and tools (mksh and toybox) in a sandbox, with files for what differs.

Everything that a command on the phone sees stands under one folder, its root::

    system/bin    sh, toybox and its applets, and the scripts of ``rom/``: getprop, dumpsys, settings, svc, input, cmd
    data          /data, kept when the phone is off
    sys           /sys: cores in clusters, frequencies, thermal zones
    phone         /phone: the values that the scripts tell, one file each, and what they were told

There is no way to run any of it outside of the sandbox.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import leti.core
import leti.device_agents

HERE = Path(__file__).resolve().parent
TOOLS = {"adb": "adb", "mksh": "mksh", "toybox": "toybox", "bwrap": "bubblewrap"}
"""The programs that a phone is made of, and the packages that bring them."""

LITTLE_KHZ, BIG_KHZ = 1_804_800, 2_841_600
SHELL_UID = 2000

PROPERTIES = {
    "ro.product.manufacturer": "Fake",
    "ro.product.brand": "fake",
    "ro.product.name": "fake",
    "ro.product.model": "Fake Phone",
    "ro.product.device": "fake",
    "ro.product.board": "fake",
    "ro.product.cpu.abi": "x86_64",
    "ro.product.cpu.abilist": "x86_64",
    "ro.soc.manufacturer": "Fake",
    "ro.soc.model": "FS8000",
    "ro.hardware": "fake",
    "ro.board.platform": "fake",
    "ro.build.version.sdk": "34",
    "ro.build.version.release": "14",
    "ro.build.id": "FAKE.240101.001",
    "ro.build.fingerprint": "fake/fake/fake:14/FAKE.240101.001/1:user/release-keys",
    "sys.boot_completed": "1",
}


@functools.cache
def missing() -> str:
    """Return why no phone can be had here, or the empty string."""
    absent = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install {' '.join(absent)})"
    try:
        probe = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc"]
        tried = subprocess.run([*probe, "true"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap does not work here: {error}"
    return f"bwrap is not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


def build(root: Path, serial_number: str, properties: Mapping[str, str]) -> None:
    """Write a phone's files under ``root``; what is there from an earlier life stays, save for system and sys."""
    for stale in ("system", "sys"):
        shutil.rmtree(root / stale, ignore_errors=True)
    _system(root / "system" / "bin")
    write(root / "system" / "etc" / "passwd", f"shell:x:{SHELL_UID}:{SHELL_UID}::/:/system/bin/sh")
    write(root / "system" / "etc" / "group", f"shell:x:{SHELL_UID}:")
    _cores(root / "sys" / "devices" / "system" / "cpu")
    zone = root / "sys" / "class" / "thermal" / "thermal_zone0"
    write(zone / "type", "cpu-0")
    write(zone / "temp", "38200")
    (root / "data" / "local" / "tmp").mkdir(parents=True, exist_ok=True)
    values = {
        "props": "\n".join(f"{name}={value}" for name, value in properties.items()),
        "serial": serial_number,
        "battery/level": "87",
        "battery/temperature": "301",
        "battery/plugged": "USB",
        "thermal/status": "0",
        "thermal/override": "",
        "thermal/cpu": "38.2",
        "thermal/skin": "31.5",
        "settings/global/stay_on_while_plugged_in": "0",
        "settings/global/low_power": "0",
        "settings/global/airplane_mode_on": "0",
        "settings/system/screen_brightness": "102",
    }
    for name, value in values.items():
        write(root / "phone" / name, value)


def write(path: Path, text: str) -> None:
    """Write one value, whole: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(f"{text}\n" if text else "")
    fresh.replace(path)


def _system(folder: Path) -> None:
    folder.mkdir(parents=True)
    toybox = shutil.which("toybox")
    assert toybox is not None
    applets = subprocess.run([toybox], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    for name in (*applets, "toybox"):
        (folder / name).symlink_to(toybox)
    # Android's toybox has these, Debian's has not.
    for name in ("tr", "awk"):
        if name not in applets and (found := shutil.which(name)):
            (folder / name).symlink_to(Path(found).resolve())
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(Path(shutil.which("mksh") or "").resolve())
    for script in (HERE / "rom").iterdir():
        (folder / script.name).unlink(missing_ok=True)
        shutil.copy(script, folder / script.name)
        (folder / script.name).chmod(0o755)


def cores() -> dict[int, int]:
    """Return the phone's cores, which are the real ones that may be used (8 at most), with their highest clock, in kHz.

    The upper half of them is the cluster of big ones.
    """
    real = sorted(os.sched_getaffinity(0))[:8]
    return {core: LITTLE_KHZ if i < len(real) // 2 else BIG_KHZ for i, core in enumerate(real)}


def _cores(folder: Path) -> None:
    """Write the cores as the kernel tells them."""
    clocks = cores()
    for name in ("online", "possible", "present"):
        write(folder / name, ",".join(map(str, clocks)))
    for core, khz in clocks.items():
        cpu = folder / f"cpu{core}"
        write(cpu / "cpu_capacity", "1024" if khz == BIG_KHZ else "325")
        write(cpu / "cpufreq" / "cpuinfo_max_freq", str(khz))
        write(cpu / "cpufreq" / "scaling_max_freq", str(khz))
        write(cpu / "cpufreq" / "cpuinfo_min_freq", "300000")
        write(cpu / "cpufreq" / "scaling_min_freq", "300000")
        write(cpu / "cpufreq" / "scaling_cur_freq", str(khz))
        write(cpu / "cpufreq" / "scaling_governor", "schedutil")
        cluster = " ".join(str(other) for other, clock in clocks.items() if clock == khz)
        write(cpu / "cpufreq" / "related_cpus", cluster)


def python_path() -> list[str]:
    """Return the folders of Python's packages, and those of LETI's rooms that the stand-in of the tool uses."""
    rooms = [Path(path).parent for module in (leti.core, leti.device_agents) for path in module.__path__]
    return list(dict.fromkeys([*(str(room.parent) for room in rooms), sysconfig.get_path("platlib")]))


def write_tool(path: Path) -> Path:
    """Write the stand-in for benchmark_model (``tool/``) as one file that a phone can execute."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("packages.py", f"import sys\n\nsys.path[1:1] = {python_path()!r}\n")
        for source in sorted((HERE / "tool").glob("*.py")):
            archive.writestr(source.name, source.read_text())
    # An environment's own path may hold blanks, which no such line can; its packages are on the path all the same.
    path.write_bytes(f"#!{Path(sys.executable).resolve()} -ESsB\n".encode() + packed.getvalue())
    path.chmod(0o755)
    return path


def command(root: Path, control: int, storage_bytes: int | None) -> list[str]:
    """Return the command line that runs the daemon of the phone under ``root`` in a sandbox.

    ``control`` is the descriptor it inherits; the daemon, and all with it, ends once nobody holds the other end. (What
    bwrap takes for the death of a parent is the end of a thread.) With ``storage_bytes`` the folder for files from
    outside is a small file system of its own, which forgets them when the phone is off.
    """
    parts = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    parts += ["--uid", str(SHELL_UID), "--gid", str(SHELL_UID), "--clearenv", "--proc", "/proc"]
    parts += ["--dev", "/dev", "--ro-bind", str(root / "system"), "/system", "--symlink", "/system/bin", "/bin"]
    parts += ["--bind", str(root / "data"), "/data", "--bind", str(root / "phone"), "/phone"]
    parts += [
        "--bind",
        str(root / "sys"),
        "/sys",
        "--ro-bind",
        "/usr",
        "/usr",
        "--ro-bind",
        str(HERE / "daemon"),
        "/adbd",
    ]
    for name in ("/lib", "/lib32", "/lib64"):
        if Path(name).is_symlink():
            parts += ["--symlink", os.readlink(name), name]
        elif Path(name).is_dir():
            parts += ["--ro-bind", name, name]
    parts += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    parts += ["--ro-bind", str(root / "system" / "etc" / "passwd"), "/etc/passwd"]
    parts += ["--ro-bind", str(root / "system" / "etc" / "group"), "/etc/group"]
    for folder in sorted({sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *python_path()}):
        if not Path(folder).is_relative_to("/usr"):
            parts += ["--ro-bind", folder, folder]
    if storage_bytes is not None:
        parts += ["--size", str(storage_bytes), "--tmpfs", "/data/local/tmp"]
    return [*parts, "--", sys.executable, "-ESsB", "/adbd/adbd.py", "--control", str(control)]
