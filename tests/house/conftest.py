"""The topology of docker-compose.yml on this machine: the commands of its services, as plain processes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from leti.client import LatencyClient
from leti.core.errors import LetiError

ROOT = Path(__file__).parents[2]
PROXY = Path(__file__).with_name("stand_in_proxy.py")
AGENT = Path(__file__).with_name("calm_agent.py")
LOG = "TOPOLOGY_LOG"
"""Variable of the environment that names a file for the timeline."""

START_S = END_S = 300.0


class Asking:
    """Somebody who asks on and on by the proxy, and counts what was answered and what was refused."""

    def __init__(self, client: LatencyClient) -> None:
        self.client = client
        self.question: Callable[[], object] = client.health
        self.answered = 0
        self.refused: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.2):
            try:
                self.question()
                self.answered += 1
            except LetiError as error:
                self.refused.append(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()


class Topology:
    """Services of a compose file, started here: names of hosts, paths of volumes and of secrets are this machine's.

    ``more`` are settings beside the file's, ``options`` of commands likewise, by the name of the service.
    """

    def __init__(
        self,
        compose: Mapping[str, Any],
        folder: Path,
        secrets: Mapping[str, str],
        more: Mapping[str, Mapping[str, str]],
        options: Mapping[str, Sequence[str]],
    ) -> None:
        self._services: Mapping[str, Any] = compose["services"]
        self._more = more
        self._options = options
        self._began = time.monotonic()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self.folder = folder
        self.timeline: list[str] = []
        self.ports = {name: free_port() for name in (*self.replicas, "proxy")}
        for part in ("volumes", "secrets", "logs"):
            (folder / part).mkdir(parents=True)
        for name, secret in secrets.items():
            self.write_secret(name, secret)

    # --- what is said of services, in this machine's terms -----------------------------------------------------------

    @property
    def replicas(self) -> tuple[str, ...]:
        """The names of the web replicas."""
        return tuple(name for name in self._services if name.startswith("web-"))

    def url(self, name: str) -> str:
        """Return the address of a replica, or of the proxy."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def volume(self, name: str) -> Path:
        """Return the folder that stands for a volume."""
        return self.folder / "volumes" / name

    def write_secret(self, name: str, secret: str) -> None:
        """Write a secret's file, as an operator does."""
        (self.folder / "secrets" / name).write_text(f"{secret}\n", encoding="utf-8")

    def words(self, name: str, *arguments: str) -> list[str]:
        """Return the command of a service, or with ``arguments`` another one of its image, as it is started here."""
        if name == "proxy":
            return self._proxy_words()
        said = [*(arguments or (*self._services[name]["command"], *self._options.get(name, ())))]
        leti = [str(AGENT)] if name == "agent" else ["-m", "leti.cli"]
        return [sys.executable, *leti, *(self._local(name, word) for word in said)]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service: this machine's, nothing of LETI's from it, then what the file says."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("LETI_")}
        said = self._services[name].get("environment", {})
        here = {key: self._local(name, str(value)) for key, value in said.items()}
        caddy = {f"XDG_{part}_HOME": str(self.folder) for part in ("DATA", "CONFIG")} if name == "proxy" else {}
        return {**own, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **here, **caddy, **self._more.get(name, {})}

    def _local(self, name: str, text: str) -> str:
        for volume in self._services[name].get("volumes", ()):
            source, target = volume.split(":")[:2]
            text = text.replace(target, str(self.volume(source)))
        text = text.replace("/run/secrets", str(self.folder / "secrets"))
        text = re.sub(r"http://(proxy|web-\d+):8000", lambda found: self.url(found[1]), text)
        if name in self.ports:
            text = re.sub(r"(^|(?<=:))8000\b", str(self.ports[name]), text)
        proxy: str = self._services["proxy"]["networks"]["inside"]["ipv4_address"]
        return text.replace("0.0.0.0", "127.0.0.1").replace(proxy, "127.0.0.1")

    @property
    def has_caddy(self) -> bool:
        """Whether Caddy itself stands before the replicas, with deploy/Caddyfile; else the tests' stand-in does."""
        return shutil.which("caddy") is not None

    def _proxy_words(self) -> list[str]:
        caddy = shutil.which("caddy")
        if caddy is None:
            ports = [str(self.ports[name]) for name in ("proxy", *self.replicas)]
            return [sys.executable, str(PROXY), *ports]
        text = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^:8000 \{$", f"{self.url('proxy')} {{", text)
        text = re.sub(r"\b(web-\d+):8000\b", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)
        file = self.folder / "Caddyfile"
        file.write_text(text, encoding="utf-8")
        return [caddy, "run", "--adapter", "caddyfile", "--config", str(file)]

    # --- starting and ending -----------------------------------------------------------------------------------------

    def run(self, name: str, *arguments: str) -> str:
        """Run a command of a service's image to its end, as ``docker compose run`` does; return its output."""
        ran = subprocess.run(
            self.words(name, *arguments), env=self.environment(name), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, f"{name} {' '.join(arguments)}: {ran.stdout}{ran.stderr}"
        return ran.stdout.strip()

    def start(self, *names: str) -> None:
        """Start services together; return once all are healthy."""
        for name in names:
            log = (self.folder / "logs" / f"{name}.log").open("ab")
            self._logs.append(log)
            self._running[name] = subprocess.Popen(
                self.words(name), env=self.environment(name), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_S
        for name in names:
            while not (self.listens(name) and self.healthy(name)):
                assert self._running[name].poll() is None, f"{name} ended: {self.tail(name)}"
                assert time.monotonic() < deadline, f"{name} does not become healthy: {self.tail(name)}"
                time.sleep(0.2)
        self.tell(f"started: {', '.join(names)}")

    def listens(self, name: str) -> bool:
        """Whether a health check, which is a process of its own, is worth trying."""
        if name not in self.ports:
            return True
        with socket.socket() as trying:
            return not trying.connect_ex(("127.0.0.1", self.ports[name]))

    def healthy(self, name: str) -> bool:
        """Run the health check of a service."""
        kind, program, *rest = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if program == "wget":  # Caddy's image brings it
            (url,) = [word for word in rest if word.startswith("http://")]
            try:
                return httpx.get(self._local(name, url), timeout=30).status_code == 200
            except httpx.HTTPError:
                return False
        run = {"python": [sys.executable], "leti": [sys.executable, "-m", "leti.cli"]}[program]
        words = [*run, *(self._local(name, word) for word in rest)]
        return not subprocess.run(words, env=self.environment(name), capture_output=True, check=False).returncode

    def kill(self, name: str) -> None:
        """End a process without a chance to say anything."""
        process = self._running.pop(name)
        process.kill()
        assert process.wait(END_S) == -signal.SIGKILL
        self.tell(f"{name} is killed (SIGKILL)")

    def stop(self, *names: str) -> None:
        """Tell processes to end; they do, with exit code 0."""
        stopping = {name: self._running.pop(name) for name in names}
        for process in stopping.values():
            process.terminate()
        codes = {name: process.wait(END_S) for name, process in stopping.items()}
        self.tell(f"{', '.join(names)} told to end (SIGTERM): exit codes {', '.join(map(str, codes.values()))}")
        assert not any(codes.values()), {name: self.tail(name) for name, code in codes.items() if code}

    def close(self) -> None:
        """End what is left, when a test has failed."""
        for process in self._running.values():
            process.kill()
            process.wait()
        for log in self._logs:
            log.close()

    # --- what is to be seen ------------------------------------------------------------------------------------------

    def client(self, name: str, token: str, **options: Any) -> LatencyClient:
        """Return a client of a replica, or of all by the proxy."""
        return LatencyClient(self.url(name), token=token, **options)

    def asking(self, client: LatencyClient) -> Asking:
        """Ask by a client for the length of a block."""
        return Asking(client)

    def tail(self, name: str, lines: int = 12) -> str:
        """Return the end of a service's log."""
        text = (self.folder / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def tell(self, what: str) -> None:
        """Put a line into the timeline: seconds since the beginning, and what has happened."""
        line = f"{time.monotonic() - self._began:6.1f} s  {what}"
        self.timeline.append(line)
        print(line, flush=True)
        if file := os.environ.get(LOG):
            Path(file).write_text("\n".join(self.timeline) + "\n", encoding="utf-8")


def free_port() -> int:
    """Return a port that nobody listens on, below those that the system gives to whoever asks for any."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="check-jsonschema brings it")
    found: dict[str, Any] = yaml.YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def new_database(postgresql_url: str) -> Callable[[], AbstractContextManager[str]]:
    """Make a database for the length of a block, which gets its address."""
    psycopg = pytest.importorskip("psycopg", reason="needs the extra postgres")
    server = urlsplit(postgresql_url.replace("+psycopg", "", 1))

    def execute(statement: str) -> None:
        with psycopg.connect(urlunsplit(server), autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def make() -> Iterator[str]:
        name = f"leti_{uuid.uuid4().hex[:12]}"
        execute(f"CREATE DATABASE {name}")
        try:
            yield f"postgresql://{server.netloc}/{name}?{server.query}"
        finally:
            execute(f"DROP DATABASE {name} WITH (FORCE)")

    return make


@pytest.fixture
def database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The address of an empty database of a PostgreSQL."""
    with new_database() as made:
        yield made


@pytest.fixture(scope="session")
def topology_of() -> type[Topology]:
    """Make a topology."""
    return Topology
