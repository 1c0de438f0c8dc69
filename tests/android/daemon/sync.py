"""The sync service: files to and from the phone, in the requests that clients use with a phone of these features."""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from wire import Stream, StreamClosed

REQUEST = struct.Struct("<4sI")
STAT1 = struct.Struct("<III")
STAT2 = struct.Struct("<IQQIIIIQqqq")
MAX_PATH = 1024
MAX_CHUNK = 64 * 1024


async def serve(stream: Stream) -> None:
    """Answer requests until the host says that it is done."""
    while True:
        name, length = REQUEST.unpack(await stream.read_exactly(REQUEST.size))
        if name == b"QUIT":
            return
        if length > MAX_PATH:
            await _fail(stream, "path too long")
            return
        path = os.fsdecode(await stream.read_exactly(length))
        answer = ANSWERS.get(name)
        if answer is None:
            await _fail(stream, f"unknown command {name.decode('latin-1')}")
            return
        await answer(stream, path)


async def _fail(stream: Stream, text: str) -> None:
    data = text.encode()
    await stream.write(REQUEST.pack(b"FAIL", len(data)) + data)


def _fields(path: str, *, follow: bool) -> bytes:
    """Return what the newer requests say of a file, its error number first."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError as error:
        return STAT2.pack(error.errno or 5, *(0,) * 10)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    owner = (found.st_nlink, found.st_uid, found.st_gid, found.st_size)
    return STAT2.pack(0, found.st_dev, found.st_ino, found.st_mode, *owner, *times)


def _short_fields(path: str) -> bytes:
    """Return what the older requests say of a file: zeros where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return STAT1.pack(0, 0, 0)
    return STAT1.pack(found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))


async def _stat(stream: Stream, path: str) -> None:
    await stream.write(b"STAT" + _short_fields(path))


async def _stat2(stream: Stream, path: str) -> None:
    await stream.write(b"STA2" + _fields(path, follow=True))


async def _lstat2(stream: Stream, path: str) -> None:
    await stream.write(b"LST2" + _fields(path, follow=False))


def _names(path: str) -> Iterator[tuple[bytes, str]]:
    try:
        for entry in os.scandir(path):
            yield os.fsencode(entry.name), entry.path
    except OSError:
        return


async def _list(stream: Stream, path: str) -> None:
    for name, entry in _names(path):
        await stream.write(b"DENT" + _short_fields(entry) + struct.pack("<I", len(name)) + name)
    await stream.write(b"DONE" + bytes(16))


async def _list2(stream: Stream, path: str) -> None:
    for name, entry in _names(path):
        await stream.write(b"DNT2" + _fields(entry, follow=False) + struct.pack("<I", len(name)) + name)
    await stream.write(b"DONE" + bytes(STAT2.size + 4))


async def _receive(stream: Stream, path: str) -> None:
    """Send a file's bytes to the host."""
    try:
        with Path(path).open("rb") as file:
            while data := file.read(MAX_CHUNK):
                await stream.write(REQUEST.pack(b"DATA", len(data)) + data)
    except OSError as error:
        await _fail(stream, f"open failed: {error.strerror}")
        return
    await stream.write(REQUEST.pack(b"DONE", 0))


async def _send(stream: Stream, path: str) -> None:
    """Take a file from the host. After an error the rest is read and thrown away, then the error is told."""
    path, _, mode_text = path.rpartition(",")
    fault = ""
    file = None
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - its end is the end of the transfer
    except OSError as error:
        fault = f"couldn't create file: {error.strerror}"
    try:
        while True:
            name, number = REQUEST.unpack(await stream.read_exactly(REQUEST.size))
            if name == b"DONE":
                break
            if name != b"DATA" or number > MAX_CHUNK:
                raise StreamClosed
            data = await stream.read_exactly(number)
            if file is not None and not fault:
                try:
                    _write_all(file.fileno(), data)
                except OSError as error:
                    fault = f"write failed: {error.strerror}"
    finally:
        if file is not None:
            file.close()
    if fault:
        await _fail(stream, fault)
        return
    # As Android's daemon does: what the owner may, everybody may.
    owner = int(mode_text or "0644", 0) >> 6 & 0o7
    Path(path).chmod(owner << 6 | owner << 3 | owner)
    os.utime(path, (number, number))
    await stream.write(REQUEST.pack(b"OKAY", 0))


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


ANSWERS: dict[bytes, Callable[[Stream, str], Awaitable[None]]] = {
    b"STAT": _stat,
    b"STA2": _stat2,
    b"LST2": _lstat2,
    b"LIST": _list,
    b"LIS2": _list2,
    b"RECV": _receive,
    b"SEND": _send,
}
