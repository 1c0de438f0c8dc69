"""Options that several commands share, and how they find the service and the platform."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from leti.core.codec import from_json
from leti.core.errors import InvalidInput, NotFound
from leti.core.spec import NetworkConfig
from leti.core.wire import MAX_SEED, Zero

if TYPE_CHECKING:
    from leti.client import LatencyClient
    from leti.service.settings import Settings

Url = Annotated[str, typer.Option("--url", envvar="LETI_URL", help="Where the service is.")]
PlatformId = Annotated[
    str, typer.Option("--platform", help="The platform's id; may be left out where the service knows one only.")
]
Home = Annotated[Path, typer.Option("--home", help="Folder of the database, models and predictors.", file_okay=False)]
ServiceHome = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of the database, models and predictors.  [default: leti-home]", file_okay=False
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="postgresql://… of the database; SQLite in the home folder where left out. A password is better kept in "
        "LETI_DATABASE_URL, or in the file that LETI_DATABASE_URL_FILE names, than in a command line.",
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="LETI_CONFIG",
        help="TOML file of the service's settings, in a table [service]; the environment and options go before it.",
        dir_okay=False,
    ),
]


def _writable(file: Path | None) -> Path | None:
    """Refuse a file that could not be written before the work begins that ends with writing it."""
    if file is not None:
        there = next(path for path in (file, *file.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK) or not (there == file or there.is_dir()):
            raise InvalidInput(f"cannot be written: {there} is in the way", field="--json", remedy="name another file")
    return file


def _probability(coverage: float) -> float:
    if not 0 < coverage < 1:
        raise InvalidInput(f"must be between 0 and 1, not {coverage}", field="--coverage")
    return coverage


JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", help="Also write the result to this file, for a program.", dir_okay=False, callback=_writable
    ),
]
CoverageOption = Annotated[
    float,
    typer.Option("--coverage", help="Probability that an interval is to hold the latency.", callback=_probability),
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

TOKEN: Final = "LETI_TOKEN"  # noqa: S105 - a name in the environment
TOKEN_FILE: Final = "LETI_TOKEN_FILE"  # noqa: S105 - another
"""What the option ``--token-file`` stands for: child processes find the token there as well."""


def service_settings(config: Path | None, **given: Any) -> Settings:
    """Return the service's settings from a file, the environment, and options that are given (not ``None``)."""
    from leti.service.configuration import load_settings

    return load_settings(config, os.environ, **given)


def connect(url: str) -> LatencyClient:
    """Return a client of the service at ``url``, with the token that every command finds in the same place."""
    from leti.client import LatencyClient  # and with it httpx, which a command that asks no service does without

    return LatencyClient(url, token=_token(os.environ))


def _token(environment: Mapping[str, str]) -> str | None:
    """Return what ``LETI_TOKEN`` holds, or the file that ``LETI_TOKEN_FILE`` names; a service may need none."""
    text, file = environment.get(TOKEN, ""), environment.get(TOKEN_FILE, "")
    if text and file:
        raise InvalidInput(f"{TOKEN} and {TOKEN_FILE} are both set", field="token", remedy="set one of them")
    if not file:
        return text or None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise InvalidInput(f"{file}: {reason}", field="--token-file", remedy="name a readable file") from None


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


def read_config(text: str, option: str = "--config") -> NetworkConfig | None:
    """Return the config that an option gives; without one, nothing: the space's own is meant."""
    if not text:
        return None
    return from_json(NetworkConfig, read_json(text, option), option)
