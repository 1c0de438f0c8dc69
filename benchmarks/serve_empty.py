"""What ``benchmarks/serve.py`` holds the service against: FastAPI routes that do nothing, served with its settings.

``python benchmarks/serve_empty.py`` serves on a free port and prints its address. ``POST /pool`` runs in the pool of
threads, as the service's routes do; ``POST /loop`` runs in the event loop and is the least that FastAPI takes.
"""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/pool")
def in_pool() -> dict[str, str]:
    """Return nothing."""
    return {}


@app.post("/loop")
async def in_loop() -> dict[str, str]:
    """Return nothing."""
    return {}


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listener])
