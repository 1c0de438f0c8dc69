"""What a file that the generator wrote says of itself: the spec that it was made from.

The file says in its metadata which network it is; that is believed only as far as the file bears it out: in the
precision stated, the spec must lower to the fingerprint stated, and the file's operators must be those that the
exporter writes for it, imported like those of any other file.
"""

from __future__ import annotations

import json

from leti.core.codec import Json, from_json, read_object
from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.export.tflite import METADATA_FORMAT, METADATA_NAME, export_tflite
from leti.generator.importers import import_model
from leti.generator.importers.tflite.file import FIELD, TfliteFile
from leti.generator.lowering import lower
from leti.generator.precision import quantize

_REMEDY = "give a .tflite file that LETI's generator wrote, unchanged, or the network's spec as JSON"
_MOST_METADATA_BYTES = 16 * 1024 * 1024  # a spec of 1,000 nodes, the largest that is valid, takes some 2 MB


def read_network(data: bytes) -> tuple[NetworkSpec, Zero]:
    """Return the spec of a model file of any precision, and what its ``none`` does.

    Raises :class:`ArtifactError` for any other file.
    """
    text = TfliteFile(data).metadata(METADATA_NAME, _MOST_METADATA_BYTES)
    if text is None:
        raise ArtifactError(
            f"does not say which network it holds (metadata {METADATA_NAME!r})", field=FIELD, remedy=_REMEDY
        )
    spec, zero, graph = _parse(text)
    try:
        found = import_model(data).graph
        # Operators that LiteRT has no builtin for are spelled out in a file, and are not recognised in each case.
        same = found == graph or found == import_model(export_tflite(graph)).graph
    except (InvalidInput, ArtifactError) as error:
        raise _differs(f"its operators do not fit together ({error})") from error
    if not same:
        raise _differs("its operators are others")
    return spec, zero


def _parse(text: bytes) -> tuple[NetworkSpec, Zero, Graph]:
    try:
        values: Json = json.loads(text)
        stated = values.get("format") if isinstance(values, dict) else None
        if stated != METADATA_FORMAT:
            raise ArtifactError(
                f"describes its network in format {stated!r:.20}, this LETI reads {METADATA_FORMAT}",
                field=FIELD,
                remedy="use the version of LETI that wrote it, or give the network's spec as JSON",
            )
        read = read_object(
            values, METADATA_NAME, required=("format", "spec", "zero", "fingerprint"), optional=("precision",)
        )
        zero: Zero = from_json(Zero, read["zero"], f"{METADATA_NAME}.zero")  # type: ignore[arg-type]
        spec = NetworkSpec.from_json(read["spec"], f"{METADATA_NAME}.spec")
        graph = quantize(lower(spec, zero), read.get("precision", "float32"))
    except (InvalidInput, ValueError, RecursionError) as error:
        raise ArtifactError(f"describes its network wrongly: {error}", field=FIELD, remedy=_REMEDY) from error
    if graph.fingerprint() != read["fingerprint"]:
        raise ArtifactError("names a network of another fingerprint than it states", field=FIELD, remedy=_REMEDY)
    return spec, zero, graph


def _differs(how: str) -> ArtifactError:
    return ArtifactError(f"is not the network that it names: {how}", field=FIELD, remedy=_REMEDY)
