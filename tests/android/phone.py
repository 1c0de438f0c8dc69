"""A phone for tests: a real adb daemon in a sandbox, its values and its faults under control.

By hand, to try an agent against::

    python tests/android/phone.py --root DIR --port 15555 &
    adb connect 127.0.0.1:15555
    leti agent run --backend android --serial 127.0.0.1:15555 --benchmark-binary DIR/benchmark_model …

``DIR/benchmark_model`` is written there: a stand-in for the official tool that runs models with LiteRT. Change the
phone by writing files: ``echo 3 > DIR/phone/thermal/status`` heats it, ``echo 5 > DIR/phone/battery/level`` drains it,
``echo '{"any": {"end": "segv"}}' > DIR/phone/tool.json`` lets the stand-in crash (see ``tool/``). It runs
until it is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sandbox

STARTS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 30.0
ANDROID_6 = {"ro.build.version.sdk": "23", "ro.build.version.release": "6.0.1"}
"""What a phone says of itself whose daemon knows no exit codes."""


class Phone:
    """One phone, listening on ``127.0.0.1:port`` once it has been started.

    ``root`` keeps what it keeps when it is off. ``android_6`` makes it one without the newer shell service;
    ``storage_bytes`` limits what can be pushed; ``auth`` is what becomes of a key that it does not know ("none" asks
    for none, "accept" is a tap on Allow, "deny" an unanswered question); a ``silent`` phone answers nothing at all.
    """

    def __init__(
        self,
        root: Path,
        *,
        port: int = 0,
        serial_number: str = "FAKE0001",
        android_6: bool = False,
        storage_bytes: int | None = None,
        auth: str = "none",
        silent: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.port = port or free_port()
        self.serial = f"127.0.0.1:{self.port}"
        self.serial_number = serial_number
        self._storage_bytes = storage_bytes
        own = {"ro.serialno": serial_number, "ro.boot.serialno": serial_number}
        self.properties = {**sandbox.PROPERTIES, **own, **(ANDROID_6 if android_6 else {}), **(properties or {})}
        self._settings: dict[str, object] = {"auth": auth, "silent": silent}
        if android_6:
            self._settings["features"] = "cmd"
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listening: threading.Thread | None = None
        self._asking = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        sandbox.build(root, serial_number, self.properties)

    # Its life

    def start(self) -> None:
        """Turn it on, and listen."""
        assert self._process is None or self._process.poll() is not None, "it is on"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = sandbox.command(self.root, theirs.fileno(), self._storage_bytes)
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._control, self._answers = ours, queue.SimpleQueue()
        self._listening = threading.Thread(target=self._listen_to, args=(ours, self._answers), daemon=True)
        self._listening.start()
        self._answer(STARTS_WITHIN_S)
        self.set(**self._settings)
        self.reachable()

    def power_off(self) -> None:
        """Turn it off as a fault does: everything on it ends at once."""
        if self._process is not None:
            for pid in (*_descendants(self._process.pid), self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None
        if self._listening is not None:
            self._listening.join(30)  # until the last of them has let go of its sockets
            self._listening = None
        if self._control is not None:
            self._control.close()
            self._control = None

    stop = power_off

    @property
    def is_on(self) -> bool:
        """Whether it is on."""
        return self._process is not None and self._process.poll() is None

    # Its link

    def set(self, **settings: object) -> None:
        """Change ``auth``, ``silent``, ``features`` or ``banner`` for the connections to come."""
        self._settings.update(settings)
        self._ask({"do": "set", **settings})

    def reachable(self) -> None:
        """Listen (again)."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(16)
            self._ask({"do": "listen"}, listener)

    def cut(self, refuse_s: float = 0.0) -> None:
        """Pull the cable; new connections are refused for a while."""
        self._ask({"do": "cut", "refuse_s": refuse_s})

    def stall(self) -> None:
        """Let the links there are go silent, without closing them."""
        self._ask({"do": "stall"})

    def fault(self, on: str, **fault: object) -> None:
        """Want a fault: see ``daemon/faults.py``."""
        self._ask({"do": "fault", "on": on, **fault})

    def no_faults(self) -> None:
        """Want none any more."""
        self._ask({"do": "clear"})

    # What it tells

    def write(self, name: str, value: object) -> None:
        """Write one value under ``/phone``."""
        sandbox.write(self.root / "phone" / name, str(value))

    def read(self, name: str) -> str:
        """Return one value under ``/phone``."""
        return (self.root / "phone" / name).read_text().strip()

    def temperature(self, *, status: int | None = None, battery_c: float | None = None) -> None:
        """Set the thermal status (0 to 6) and the battery's temperature."""
        if status is not None:
            self.write("thermal/status", status)
        if battery_c is not None:
            self.write("battery/temperature", round(battery_c * 10))

    def tool(self, model: bytes | None = None, **switches: object) -> None:
        """Let the stand-in for benchmark_model do otherwise than usual, for one model or for all that have none."""
        table = json.loads(self.read("tool.json")) if (self.root / "phone" / "tool.json").exists() else {}
        table["any" if model is None else hashlib.sha256(model).hexdigest()] = switches
        self.write("tool.json", json.dumps(table))

    def cap(self, khz: int) -> None:
        """Let the system allow all cores no more than ``khz``."""
        for cpu in (self.root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
            sandbox.write(cpu / "cpufreq" / "scaling_max_freq", str(khz))

    def requests(self, *kinds: str) -> list[str]:
        """Return the text of every request so far that is of these kinds (shell, exec, sync), or "fault"."""
        log = self.root / "phone" / "requests.jsonl"
        noted = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [each["what"] for each in noted if each["kind"] in kinds]

    def files(self) -> list[str]:
        """Return the files and folders that were left where files from outside go."""
        folder = self.root / "data" / "local" / "tmp"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    def processes(self) -> list[str]:
        """Return the command line of each process on it, save for the daemon's own."""
        assert self._process is not None
        found = []
        for pid in _descendants(self._process.pid):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if line and "/adbd/adbd.py" not in line:
                found.append(line)
        return found

    def _ask(self, what: dict[str, object], *sockets: socket.socket) -> None:
        assert self._control is not None, "it is off"
        with self._asking:
            socket.send_fds(self._control, [json.dumps(what).encode()], [s.fileno() for s in sockets])
            self._answer(ANSWERS_WITHIN_S)

    def _answer(self, within_s: float) -> None:
        try:
            answer = self._answers.get(timeout=within_s)
        except queue.Empty:
            raise TimeoutError("the phone's daemon does not answer") from None
        if answer is None:
            raise ConnectionError("the phone's daemon has ended")

    def _listen_to(self, control: socket.socket, answers: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        """Take in what the daemon says: answers, and that it refuses connections for a while."""
        while True:
            try:
                data = control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                answers.put(None)
                return
            said = json.loads(data)
            if "refusing_s" in said:
                threading.Timer(said["refusing_s"], self._reachable_again).start()
            else:
                answers.put(said)

    def _reachable_again(self) -> None:
        if self.is_on:
            self.reachable()


def _descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:
            continue
        found += children
        waiting += children
    return found


def free_port() -> int:
    """Return a port that nobody listens on, none of those that adb looks at by itself (5555 to 5585)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if not 5554 <= port <= 5585:
            return port


def main() -> None:
    """Run one phone until interrupted."""
    parser = argparse.ArgumentParser(description="A phone to try an agent against; stop it with Ctrl-C.")
    parser.add_argument("--root", type=Path, required=True, help="folder for the phone's files")
    parser.add_argument("--port", type=int, default=15555, help="port on 127.0.0.1, none of 5554 to 5585")
    parser.add_argument("--serial-number", default="FAKE0001")
    parser.add_argument("--android-6", action="store_true", help="a daemon without exit codes")
    given = parser.parse_args()
    if reason := sandbox.missing():
        sys.exit(reason)
    phone = Phone(given.root.resolve(), port=given.port, serial_number=given.serial_number, android_6=given.android_6)
    tool = sandbox.write_tool(phone.root / "benchmark_model")
    phone.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    print(f"adb connect {phone.serial}; the benchmark binary is {tool}", flush=True)
    try:
        while phone.is_on:
            time.sleep(0.5)
        sys.exit("the phone has gone off")
    finally:
        phone.stop()


if __name__ == "__main__":
    main()
