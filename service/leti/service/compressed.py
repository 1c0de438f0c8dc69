"""Compressed forms of networks for campaigns: drawn of a base, named, and known as the base's."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from leti.core.codec import to_json
from leti.core.device import ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.patches import CompressedSample
from leti.core.wire import Zero
from leti.generator.compressing.sampling import compressed_forms
from leti.generator.precision import quantize
from leti.service.answering.reading import Reader
from leti.service.specless import name_form
from leti.service.store import KnownNetwork

MAX_FORMS: Final = 1_000
"""Compressed networks that one campaign may draw: each takes some milliseconds."""


def draw_forms(
    sample: CompressedSample, reader: Reader, zero: Zero, precision: ModelPrecision, where: str
) -> tuple[KnownNetwork, list[KnownNetwork]]:
    """Return the base of a sample, in float32, and its compressed forms in a precision.

    The forms are of the isomorphism class that the base has in that precision, so that no split parts them from it.
    Raises :class:`InvalidInput` naming the place below ``where``.
    """
    base = reader.one(sample.network, zero, "float32", f"{where}.network").known()
    twin = base if precision == "float32" else reader.one(sample.network, zero, precision, f"{where}.network").known()
    try:
        forms = compressed_forms(base.graph, sample.count, sample.seed)
    except InvalidInput as error:
        error.field = f"{where}.{error.field}"
        raise
    found = []
    for patch, graph in forms:
        if precision != "float32":
            patch, graph = replace(patch, precision=precision), quantize(graph, precision)
        found.append(name_form(graph, base.network.fingerprint, twin.network.isomorphism_class, to_json(patch)))
    return base, found
