"""Commands for the host: the shell service in its newer form (packets, exit code) and its older one (a terminal)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator

from wire import Stream, StreamClosed

PACKET = struct.Struct("<BI")
STDIN, OUT, ERR, EXIT, CLOSE_STDIN = range(5)
CHUNK = 1 << 16

ENVIRONMENT = {
    "PATH": "/product/bin:/system/bin:/system/xbin:/vendor/bin",
    "HOME": "/",
    "USER": "shell",
    "LOGNAME": "shell",
    "SHELL": "/system/bin/sh",
    "TMPDIR": "/data/local/tmp",
    "ANDROID_DATA": "/data",
    "ANDROID_ROOT": "/system",
}


@contextlib.asynccontextmanager
async def _started(command: str, *, stderr: int, stdin: int = PIPE) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command; whatever ends the stream meanwhile sends SIGHUP to its shell alone, as Android's daemon does."""
    arguments = ("/system/bin/sh", "-c", command) if command else ("/system/bin/sh",)
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=stdin, stdout=PIPE, stderr=stderr, env=ENVIRONMENT, cwd="/", start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGHUP)


async def packets(stream: Stream, command: str) -> None:
    """Run ``command`` with its output and errors apart, and tell its exit code."""

    async def pump(pipe: asyncio.StreamReader, kind: int) -> None:
        while data := await pipe.read(CHUNK):
            await stream.write(PACKET.pack(kind, len(data)) + data)

    async with _started(command, stderr=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeding = asyncio.create_task(_feed(stream, process.stdin))
        pumping = asyncio.gather(pump(process.stdout, OUT), pump(process.stderr, ERR))
        try:
            # What the host says last is that it has gone: the command is not waited for then.
            await asyncio.wait((feeding, pumping), return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and feeding.exception() is not None:
                raise StreamClosed
            await pumping
            code = await process.wait()
            await stream.write(PACKET.pack(EXIT, 1) + bytes([code if code >= 0 else 128 - code]))
        finally:
            await _end(feeding, pumping)


async def _feed(stream: Stream, stdin: asyncio.StreamWriter) -> None:
    """Hand on what the host types, until the link ends (which raises)."""
    while True:
        kind, length = PACKET.unpack(await stream.read_exactly(PACKET.size))
        data = await stream.read_exactly(length)
        if kind == STDIN:
            stdin.write(data)
            with contextlib.suppress(ConnectionError):
                await stdin.drain()
        elif kind == CLOSE_STDIN:
            stdin.close()


async def terminal(stream: Stream, command: str, *, raw: bool = False) -> None:
    """Run ``command`` with everything in one stream and no exit code; a terminal ends its lines with CR LF."""

    async def pump() -> None:
        while data := await process.stdout.read(CHUNK):  # type: ignore[union-attr]
            await stream.write(data if raw else data.replace(b"\n", b"\r\n"))

    async with _started(command, stderr=STDOUT, stdin=PIPE if raw else DEVNULL) as process:

        async def feed() -> None:
            while True:
                data = await stream.read()
                if process.stdin is not None:
                    process.stdin.write(data)

        feeding, pumping = asyncio.create_task(feed()), asyncio.create_task(pump())
        try:
            await asyncio.wait((feeding, pumping), return_when=asyncio.FIRST_COMPLETED)
            if not pumping.done():
                raise StreamClosed
            await pumping
            await process.wait()
        finally:
            await _end(feeding, pumping)


async def _end(*tasks: asyncio.Future[object] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
