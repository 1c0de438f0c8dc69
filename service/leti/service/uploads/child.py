"""The child: what runs in the sandbox. It shuts itself in, reads one model file, and answers its graph as JSON."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from leti.core.codec import Json
from leti.core.errors import LetiError, TooLarge

OPEN_FILES: Final = 64

_NEW_USER, _NEW_NET, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000  # linux/sched.h
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS, linux/prctl.h
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN: Final = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.")


def main() -> None:
    """Read the file that the command line names, and answer on what was standard output."""
    name, limits = sys.argv[1], json.loads(sys.argv[2])
    answer = os.dup(1)
    os.dup2(2, 1)  # /dev/null: what libraries print is no answer
    contain(limits["memory_bytes"], limits["timeout_s"])
    with os.fdopen(answer, "w", encoding="utf-8") as pipe:
        json.dump(_told(lambda: _graph(Path(name))), pipe, allow_nan=False)


def contain(memory_bytes: int, cpu_s: float) -> None:
    """Give up what reading a file does not take. There must be no second thread yet."""
    _cut_network()
    try:
        import resource
    except ImportError:  # Windows
        return
    cpu = math.ceil(cpu_s)
    limits = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NOFILE: (OPEN_FILES, OPEN_FILES),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_NPROC: (0, 0),
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, limit)


def forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what no reader of a file has to do; an audit hook, which binds Python code and no native one."""
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
    if writes or event.startswith(_FORBIDDEN):
        raise PermissionError(f"{event} is not allowed here")


def _cut_network() -> None:
    """Move into a network without interfaces, where the kernel grants it; and gain no privilege ever after."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.unshare(_NEW_NET | _NEW_IPC) != 0:
        libc.unshare(_NEW_USER | _NEW_NET | _NEW_IPC)


def _told(read: Callable[[], Json]) -> Json:
    """Return what is read, or why it cannot be."""
    try:
        return {"graph": read()}
    except MemoryError:
        return problem_of(TooLarge("takes more memory to be read than its reader may take"))
    except LetiError as error:
        return problem_of(error)
    except Exception as error:  # noqa: BLE001 - whatever an importer trips over, the file is at fault
        return problem_of(LetiError(f"cannot be read: {type(error).__name__}"))


def problem_of(error: LetiError) -> Json:
    """Return what an answer says of an error."""
    said = {"kind": error.kind, "message": error.message, "field": error.field, "remedy": error.remedy}
    return {"problem": {name: text[:2_000] for name, text in said.items()}}


def _graph(path: Path) -> Json:
    from leti.generator.importers import import_model

    sys.addaudithook(forbid)
    return import_model(path).graph.to_json()


if __name__ == "__main__":
    main()
