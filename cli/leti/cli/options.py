"""Options that several commands share, and how they find the service and the platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leti.client import LatencyClient
from leti.core.errors import InvalidInput, NotFound
from leti.core.wire import Zero

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

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_HOME = Path("leti-home")


def choose_platform(client: LatencyClient, wanted: str) -> str:
    """Return ``wanted``, or the only platform; raise an error that lists the platforms where neither is there."""
    known = [info.id for info in client.platforms()]
    listed = ", ".join(known) or "none yet: start an agent first, `leti agent`"
    if wanted:
        if wanted not in known:
            raise NotFound(f"no platform {wanted!r}", field="--platform", remedy=f"known: {listed}")
        return wanted
    if len(known) != 1:
        raise InvalidInput("must be given", field="--platform", remedy=f"known: {listed}")
    return known[0]
