"""A phone's adb daemon, for tests: it runs inside the sandbox, real adb clients connect to it over TCP.

What it is to do comes as JSON over a socket that it inherits (``--control FD``), the listening socket with it; so the
sandbox needs no network of its own. Faults are wanted by the same way (see ``faults.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import secrets
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import shell
import sync
from faults import Fault, Faults
from wire import (
    AUTH_KEY,
    AUTH_SIGNATURE,
    AUTH_TOKEN,
    MAX_DATA,
    TOKEN_BYTES,
    VERSION,
    Message,
    Stream,
    StreamClosed,
    WireFault,
    read_message,
    signed_by,
)

KEYS = Path("/phone/adb_keys")
LOG = Path("/phone/requests.jsonl")
MODERN = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"

MOMENTS = {
    ("shell", "start"): "start",
    ("exec", "start"): "start",
    ("sync", "start"): "start",
    ("shell", "out"): "shell",
    ("exec", "out"): "shell",
    ("sync", "in"): "push",
    ("sync", "out"): "pull",
}
"""What a fault may wait for, by the kind of a request and what happens to it."""


class Daemon:
    """The daemon: who may connect, what it says it can, which links there are."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.auth = "none"
        self.silent = False
        self.features = MODERN
        self.banner = {"ro.product.name": "fake", "ro.product.model": "Fake_Phone", "ro.product.device": "fake"}
        self.faults = Faults()
        self.links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self._striking: set[asyncio.Task[None]] = set()

    def on_control(self) -> None:
        """Do what the outside wants, and say that it is done."""
        data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 1)
        if not data:
            power_off()
        wanted: dict[str, Any] = json.loads(data)
        match wanted.pop("do"):
            case "listen":
                listener = socket.socket(fileno=descriptors[0])
                asyncio.get_running_loop().create_task(self._listen(listener))
                return  # said once it is so
            case "set":
                for name, value in wanted.items():
                    setattr(self, name, value)
            case "fault":
                self.faults.add(Fault(**wanted))
            case "clear":
                self.faults.clear()
            case "cut":
                self.cut(**wanted)
            case "stall":
                self.stall()
            case unknown:
                raise ValueError(unknown)
        self.say({"done": True})

    def say(self, what: dict[str, object]) -> None:
        """Tell the outside something."""
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(what).encode())

    async def _listen(self, listener: socket.socket) -> None:
        self._stop_listening()
        listener.setblocking(False)
        self._server = await asyncio.start_server(self._connected, sock=listener)
        self.say({"done": True})

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self, refuse_s: float = 0.0) -> None:
        """Tear every link down, as a pulled cable does, and refuse new ones for a while."""
        if refuse_s:
            self._stop_listening()
            self.say({"refusing_s": refuse_s})
        for link in tuple(self.links):
            link.cut()

    async def happens(self, stream: Stream, kind: str, what: str, way: str, count: int = 0) -> None:
        """Let a fault strike that was wanted for this moment of a request, after ``count`` bytes this way."""
        fault = None if stream.struck else self.faults.due(MOMENTS.get((kind, way), ""), what, count)
        if fault is None:
            return
        stream.struck = True
        striking = asyncio.create_task(self._strike(fault, stream))
        self._striking.add(striking)
        striking.add_done_callback(self._striking.discard)
        if not fault.delay_s:
            await asyncio.shield(striking)

    async def _strike(self, fault: Fault, stream: Stream) -> None:
        await asyncio.sleep(fault.delay_s)
        note("fault", f"{fault.then} on {fault.on} {fault.match}")
        match fault.then:
            case "cut":
                self.cut(fault.refuse_s)
            case "off":
                power_off()
            case "stall":
                self.stall()
            case "damage":
                stream.damaged = True

    def stall(self) -> None:
        """Let every link go silent, without closing it."""
        for link in self.links:
            link.awake.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        self.links.add(link)
        try:
            await link.serve()
        except (EOFError, ConnectionError, WireFault):
            pass
        finally:
            self.links.discard(link)
            await link.end()


class Link:
    """One connection of an adb server."""

    def __init__(self, daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._daemon = daemon
        self._reader, self._writer = reader, writer
        self._max_data = 4096
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._online = False
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0
        self.awake = asyncio.Event()
        self.awake.set()

    async def send(self, message: Message) -> None:
        """Send one message, unless the line is dead by wish."""
        await self.awake.wait()
        self._writer.write(message.pack())
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def serve(self) -> None:
        """Answer messages until the link ends."""
        while True:
            message = await read_message(self._reader)
            await self.awake.wait()
            if self._daemon.silent:
                continue
            match message.command:
                case b"CNXN":
                    self._max_data = min(message.arg1, MAX_DATA)
                    await self._greet(known=self._daemon.auth == "none")
                case b"AUTH":
                    await self._authenticate(message)
                case b"OPEN" if self._online:
                    self._open(message)
                case b"OKAY" | b"WRTE" | b"CLSE" if self._online:
                    await self._on_stream(message)

    async def _greet(self, *, known: bool) -> None:
        if not known:
            await self.send(Message(b"AUTH", AUTH_TOKEN, 0, self._token))
            return
        self._online = True
        pairs = [*self._daemon.banner.items(), ("features", self._daemon.features)]
        banner = "device::" + ";".join(f"{name}={value}" for name, value in pairs)
        await self.send(Message(b"CNXN", VERSION, MAX_DATA, banner.encode()))

    async def _authenticate(self, message: Message) -> None:
        """Let in whose key is known; a new key is allowed, as by a tap on the screen, or left unanswered."""
        if message.arg0 == AUTH_SIGNATURE:
            known = KEYS.read_bytes().splitlines() if KEYS.exists() else []
            await self._greet(known=any(signed_by(key, self._token, message.data) for key in known))
        elif message.arg0 == AUTH_KEY and self._daemon.auth == "accept":
            with KEYS.open("ab") as file:
                file.write(message.data.rstrip(b"\0\n") + b"\n")
            await self._greet(known=True)

    def _open(self, message: Message) -> None:
        self._last += 1
        stream = Stream(self.send, self._last, message.arg0, self._max_data)
        self._streams[self._last] = stream
        destination = message.data.rstrip(b"\0").decode(errors="replace")
        task = asyncio.create_task(self._run(stream, message.arg0, destination))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: Stream, theirs: int, destination: str) -> None:
        """Serve one stream to its end."""
        kind, _, rest = destination.partition(":")
        kind, *arguments = kind.split(",")
        if kind not in ("shell", "exec", "sync"):
            await self.send(Message(b"CLSE", 0, theirs))
            return
        await self.send(Message(b"OKAY", stream.ours, theirs))
        note(kind, rest)
        stream.watch = functools.partial(self._daemon.happens, stream, kind, rest)
        try:
            await self._daemon.happens(stream, kind, rest, "start")
            if kind == "sync":
                await sync.serve(stream)
            elif kind == "shell" and "v2" in arguments:
                await shell.packets(stream, rest)
            else:
                await shell.terminal(stream, rest, raw=kind == "exec")
        except StreamClosed:
            pass
        finally:
            await stream.close()
            self._streams.pop(stream.ours, None)

    async def _on_stream(self, message: Message) -> None:
        stream = self._streams.get(message.arg1)
        if stream is None:
            if message.command == b"WRTE":
                await self.send(Message(b"CLSE", 0, message.arg0))
        elif message.command == b"OKAY":
            stream.acknowledged()
        elif message.command == b"WRTE":
            stream.received(message.data)
        else:
            await stream.close()

    def cut(self) -> None:
        """Tear the link down without a goodbye."""
        with contextlib.suppress(OSError, AttributeError):
            self._writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self._writer.transport.abort()

    async def end(self) -> None:
        """Let everything that ran for this link learn that it is gone."""
        for stream in self._streams.values():
            stream.ended()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.close()


def note(kind: str, what: str) -> None:
    """Write down a request, or a fault that strikes."""
    with LOG.open("a") as log:
        log.write(json.dumps({"at": time.time(), "kind": kind, "what": what}) + "\n")


def power_off() -> None:
    """End everything at once: with the sandbox's first process all others end."""
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)
    os._exit(9)


async def _main(control: socket.socket) -> None:
    daemon = Daemon(control)
    asyncio.get_running_loop().add_reader(control, daemon.on_control)
    daemon.say({"done": True})
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    inherited = socket.socket(fileno=parser.parse_args().control)
    # Signals that a starter ignored would be ignored by every command too, and none would end with its link.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o000)
    try:
        asyncio.run(_main(inherited))
    except KeyboardInterrupt:
        sys.exit(130)
