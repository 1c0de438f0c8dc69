"""``leti predict``: the latency of networks, from the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from leti.cli.options import (
    DEFAULT_URL,
    CoverageOption,
    JsonFile,
    PlatformId,
    Url,
    ZeroOption,
    choose_platform,
    connect,
    read_json,
)
from leti.cli.report import new_console, predictions_table, write_json
from leti.core.codec import to_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.queries import PredictionItem, PredictionRequest
from leti.core.wire import NetworkInput, Zero

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*:[0-9, ]+|[0-9a-f]{64}")
"""A vector of choices, or a fingerprint."""

MAX_FILE_BYTES = 256 * 2**20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    networks: Annotated[
        list[str],
        typer.Argument(
            help="Spec (.json), .tflite file that LETI wrote, NAS-Bench-201 architecture string, vector of choices "
            "(space:0,1,2), or fingerprint."
        ),
    ],
    coverage: CoverageOption = 0.9,
    zero: ZeroOption = "execute",
    platform: PlatformId = "",
    url: Url = DEFAULT_URL,
    json_file: JsonFile = None,
) -> None:
    """Predict latencies; a network that was measured is answered by its measurement."""
    read = [_read(text, zero) for text in networks]
    with connect(url) as client:
        platform_id = choose_platform(client, platform)
        items: dict[int, PredictionItem] = {}
        for mode in sorted({mode for _, mode in read}):
            chosen = [i for i, (_, m) in enumerate(read) if m == mode]
            request = PredictionRequest((platform_id,), tuple(read[i][0] for i in chosen), zero=mode, coverage=coverage)
            items.update(zip(chosen, client.predict(request).only(), strict=True))
    ordered = [items[i] for i in range(len(read))]
    new_console().print(predictions_table(platform_id, [Path(text).name for text in networks], ordered))
    write_json(json_file, to_json(ordered))


def _read(text: str, zero: Zero) -> tuple[NetworkInput, Zero]:
    """Return a network and what its ``none`` does; a model file says so itself."""
    if text.startswith("|") or _CODE.fullmatch(text):
        return text, zero
    path = Path(text)
    if not path.is_file():
        remedy = "give a .json or .tflite file, or a NAS-Bench-201 string such as '|none~0|+|…'"
        raise InvalidInput(f"no file {text!r}, and not an architecture string", field="networks", remedy=remedy)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidInput(f"{text!r} is over {MAX_FILE_BYTES} bytes", field="networks")
    if path.suffix == ".tflite":
        with needs("export"):
            from leti.generator.importers.embedded import read_network
        spec, written = read_network(path.read_bytes())
        return spec.to_json(), written
    data = read_json(path.read_bytes(), f"networks ({path.name})")
    if not isinstance(data, str | dict):
        raise InvalidInput(f"{text!r} must hold a spec", field="networks")
    return data, zero
