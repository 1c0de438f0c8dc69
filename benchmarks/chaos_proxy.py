"""A proxy between agents and service that does what networks do: cuts answers off, repeats requests, holds them back.

It reads HTTP/1.1 messages with a Content-Length, as LETI's client and service write them, and forwards one request at a
time on each connection. What it does to a request is drawn by a seed:

- *cut*: the request reaches the service, which commits; the client's connection is closed before a byte of the answer.
- *twice*: a result is posted two times, the answer is that to the second.
- *late*: a result is held back until its lease has run out.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True)
class Message:
    """A request or an answer: everything up to the blank line, then the body."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """The message as it travels."""
        return self.head + self.body


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Return the next message of a connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            raise ValueError("messages in chunks are not forwarded")
    return Message(head, await reader.readexactly(length) if length else b"")


@dataclass(slots=True)
class Proxy:
    """Forwards to 127.0.0.1:``upstream``; ``shares`` are the probabilities of ``cut``, ``twice`` and ``late``."""

    upstream: int
    shares: Mapping[str, float]
    late_s: float
    seed: int = 0
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Serve in a thread until the process ends."""
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="proxy", daemon=True).start()
        if not ready.wait(30):
            raise RuntimeError("the proxy did not start")

    async def _serve(self, ready: threading.Event) -> None:
        chance = random.Random(self.seed)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._connection(reader, writer, chance)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                pass  # either side went away: what the proxy is for
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
    ) -> None:
        while True:
            request = await read_message(reader)
            is_result = request.head.startswith(b"POST /v1/results")
            self.counts["requests"] += 1
            if is_result and chance.random() < self.shares["late"]:
                self.counts["late"] += 1
                await asyncio.sleep(self.late_s)
            if is_result and chance.random() < self.shares["twice"]:
                self.counts["twice"] += 1
                with suppress(OSError, asyncio.IncompleteReadError):
                    await self._forward(request)
            answer = await self._forward(request)
            if request.head.startswith((b"POST", b"DELETE")) and chance.random() < self.shares["cut"]:
                self.counts["cut"] += 1
                return
            writer.write(answer.raw)
            await writer.drain()

    async def _forward(self, request: Message) -> Message:
        """Return the service's answer, by a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=2**20)
        try:
            writer.write(request.raw)
            await writer.drain()
            return await read_message(reader)
        finally:
            writer.close()
