"""The adb protocol's messages, and one stream of a connection.

The format is that of AOSP's ``protocol.txt``: a header of six little-endian words (command, two arguments, length,
checksum, and the command's complement), then the payload.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

VERSION = 0x01000001
MAX_DATA = 1 << 20
HEADER = struct.Struct("<6I")
TOKEN_BYTES = 20
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_KEY = 1, 2, 3

# What PKCS #1 puts before a SHA-1 digest; adb signs the token itself as if it were a digest.
_DIGEST_INFO = bytes.fromhex("3021300906052b0e03021a05000414")


class WireFault(Exception):
    """The peer broke the protocol."""


class StreamClosed(Exception):
    """The other end of a stream has closed it, or the link is gone."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its four letters, its two arguments, its payload."""

    command: bytes
    arg0: int
    arg1: int
    data: bytes = b""

    def pack(self) -> bytes:
        """Return the bytes of header and payload; the checksum is left 0, as this protocol version allows."""
        word = int.from_bytes(self.command, "little")
        return HEADER.pack(word, self.arg0, self.arg1, len(self.data), 0, word ^ 0xFFFFFFFF) + self.data


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Return the next message; raise :class:`WireFault` for what is none, ``EOFError`` at the end."""
    word, arg0, arg1, length, _, magic = HEADER.unpack(await reader.readexactly(HEADER.size))
    if magic != word ^ 0xFFFFFFFF or length > MAX_DATA:
        raise WireFault(f"not a message: {word:#x}, {length} bytes")
    return Message(word.to_bytes(4, "little"), arg0, arg1, await reader.readexactly(length))


def signed_by(key_text: bytes, token: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` is ``token``, signed with the private half of a key in Android's public format."""
    try:
        key = base64.b64decode(key_text.split()[0], validate=True)
        words = int.from_bytes(key[:4], "little")
        modulus = int.from_bytes(key[8 : 8 + 4 * words], "little")
        exponent = int.from_bytes(key[8 + 8 * words :], "little")
    except (ValueError, IndexError):
        return False
    if words != 64 or not modulus:
        return False
    tail = b"\x00" + _DIGEST_INFO + token
    expected = b"\x00\x01" + b"\xff" * (4 * words - 2 - len(tail)) + tail
    return pow(int.from_bytes(signature, "big"), exponent, modulus) == int.from_bytes(expected, "big")


class Stream:
    """One stream: bytes in order both ways; each message is acknowledged before the next is sent."""

    def __init__(self, send: Callable[[Message], Awaitable[None]], ours: int, theirs: int, max_data: int) -> None:
        self._send = send
        self.ours = ours
        self.watch: Callable[[str, int], Awaitable[None]] | None = None
        self._passed = {"in": 0, "out": 0}
        self._theirs = theirs
        self._max_data = max_data
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._acknowledged = asyncio.Event()
        self._writing = asyncio.Lock()
        self._left = b""
        self.is_open = True
        self.damaged = False
        self.struck = False

    async def write(self, data: bytes) -> None:
        """Send ``data``; raise :class:`StreamClosed` where nobody listens."""
        async with self._writing:
            for start in range(0, len(data), self._max_data):
                if not self.is_open:
                    raise StreamClosed
                self._acknowledged.clear()
                chunk = data[start : start + self._max_data]
                await self._send(Message(b"WRTE", self.ours, self._theirs, chunk))
                await self._acknowledged.wait()
                await self._count("out", len(chunk))
        if not self.is_open:
            raise StreamClosed

    async def read(self) -> bytes:
        """Return some bytes; raise :class:`StreamClosed` at the end."""
        if self._left:
            data, self._left = self._left, b""
            return data
        data = await self._inbox.get() if self.is_open or not self._inbox.empty() else None
        if data is None:
            raise StreamClosed
        await self._send(Message(b"OKAY", self.ours, self._theirs))
        await self._count("in", len(data))
        if self.damaged:
            self.damaged = False
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
        return data

    async def _count(self, way: str, passed: int) -> None:
        self._passed[way] += passed
        if self.watch is not None:
            await self.watch(way, self._passed[way])

    async def read_exactly(self, length: int) -> bytes:
        """Return ``length`` bytes; raise :class:`StreamClosed` where the stream ends before."""
        parts: list[bytes] = []
        while length > 0:
            data = await self.read()
            parts.append(data[:length])
            self._left = data[length:]
            length -= len(parts[-1])
        return b"".join(parts)

    async def close(self) -> None:
        """Tell the host that nothing more comes."""
        if self.is_open:
            self.ended()
            await self._send(Message(b"CLSE", self.ours, self._theirs))

    def received(self, data: bytes) -> None:
        """Take in what the host has written."""
        self._inbox.put_nowait(data)

    def acknowledged(self) -> None:
        """Let the next message go."""
        self._acknowledged.set()

    def ended(self) -> None:
        """Wake whoever waits: nothing comes or goes any more."""
        self.is_open = False
        self._inbox.put_nowait(None)
        self._acknowledged.set()
