"""A client for ``benchmarks/serve.py``: POSTs bodies one after the other over several connections, and times answers.

Reads one JSON object from its standard input (``url``, ``token``, which may be empty, ``connections``, ``seconds``, and
the ``bodies``, which are sent in turn) and prints one: seconds of each answer, sorted, how long it ran, and the
processor's seconds that it took.
Bare sockets in one event loop: a client library would take as long as the service does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit


async def load(url: str, token: str, connections: int, seconds: float, bodies: list[str]) -> dict[str, object]:
    """Return what was timed; raises ``SystemExit`` for an answer that is not 200."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer {token}\r\ncontent-length: " if token else "content-length: "
    requests = itertools.cycle([f"{head}{len(body)}\r\n\r\n{body}".encode() for body in bodies])
    times: list[float] = []
    started, spent = time.perf_counter(), time.process_time()
    end = started + seconds
    host, port = parts.hostname or "", parts.port or 80
    await asyncio.gather(*[_ask(host, port, requests, end, times) for _ in range(connections)])
    elapsed = time.perf_counter() - started
    return {"times": sorted(times), "seconds": elapsed, "processor_s": time.process_time() - spent}


async def _ask(host: str, port: int, requests: Iterator[bytes], end: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while time.perf_counter() < end:
        request = next(requests)
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
        body = await reader.readexactly(int(length))
        times.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{head.decode()}{body.decode()}")
    writer.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(**json.load(sys.stdin)))))
