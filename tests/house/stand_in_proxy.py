"""A stand-in for the proxy of docker-compose.yml: ``stand_in_proxy.py PORT REPLICA…``, ports all of them.

Connections go to the replicas in turn, to the next one where one refuses; what runs over them is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Proxy:
    def __init__(self, replicas: list[int]) -> None:
        self._replicas = replicas

    async def handle(self, reader: Reader, writer: Writer) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await self._connect()
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        writer.close()

    async def _connect(self) -> tuple[Reader, Writer]:
        for _ in self._replicas:
            self._replicas.append(self._replicas.pop(0))
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self._replicas[-1])
        raise ConnectionRefusedError


async def pump(reader: Reader, writer: Writer) -> None:
    """Hand on what comes, until one side closes."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(port: int, replicas: list[int]) -> None:
    server = await asyncio.start_server(Proxy(replicas).handle, "127.0.0.1", port)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with server:
        await over.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
