"""Options that several commands share, and how they find the service and the platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from leti.client import LatencyClient
from leti.core.codec import from_json
from leti.core.errors import InvalidInput, NotFound
from leti.core.spec import NetworkConfig
from leti.core.wire import MAX_SEED, Zero

Url = Annotated[str, typer.Option("--url", envvar="LETI_URL", help="Where the service is.")]
PlatformId = Annotated[
    str, typer.Option("--platform", help="The platform's id; may be left out where the service knows one only.")
]
Home = Annotated[Path, typer.Option("--home", help="Folder of the database, models and predictors.", file_okay=False)]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result to this file, for a program.", dir_okay=False)
]
ZeroOption = Annotated[
    Zero, typer.Option("--zero", help="NAS-Bench-201's `none`: multiply by zero, leave zeros out of sums, or prune.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of what is drawn and split.")]
ConfigOption = Annotated[
    str,
    typer.Option(
        "--config",
        help='What cells are stacked into, as JSON, such as {"modules_per_stack": 1}; else the space\'s own.',
    ),
]

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_HOME = Path("leti-home")


def choose_platform(client: LatencyClient, wanted: str) -> str:
    """Return ``wanted``, or the only platform; raise an error that lists the platforms where neither is there."""
    known = [info.id for info in client.platforms()]
    listed = ", ".join(known) or "none yet: start an agent first, `leti agent run`"
    if wanted:
        if wanted not in known:
            raise NotFound(f"no platform {wanted!r}", field="--platform", remedy=f"known: {listed}")
        return wanted
    if len(known) != 1:
        raise InvalidInput("must be given", field="--platform", remedy=f"known: {listed}")
    return known[0]


def read_json(text: str | bytes, field: str) -> Any:
    """Return what JSON text says; raise :class:`InvalidInput` naming ``field`` where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is not JSON: {error}", field=field) from None


def read_config(text: str) -> NetworkConfig | None:
    """Return the config that ``--config`` gives; without one, nothing: the space's own is meant."""
    if not text:
        return None
    return from_json(NetworkConfig, read_json(text, "--config"), "--config")
