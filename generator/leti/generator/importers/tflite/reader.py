"""TFLite import: a model file of any precision, as a draft.

A flatbuffer is read in place and a large file is mapped into memory, so that weights are not loaded before somebody
asks for them. An activation inside an operator becomes one after it. float16 weights, which stand before a
``DEQUANTIZE`` in the file, and integer weights under float activations are weights of the operator that reads them,
which says their data type.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from leti.core.errors import ArtifactError, InvalidInput
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, NoCounterpart
from leti.generator.importers.tflite.file import FIELD, FileOperator, TfliteFile, damaged
from leti.generator.importers.tflite.operators import OPERATORS
from leti.generator.importers.tflite.shapes import open_shapes
from leti.generator.importers.tflite.site import Site, Values

_MOST_READ_BYTES = 64 * 2**20


def read_tflite(source: Path | bytes, input_shapes: Mapping[str, Shape]) -> Draft:
    """Return the draft of a model file.

    ``input_shapes`` are shapes of inputs by the name of the tensor or that of the signature; shapes other than the
    file's are worked out by LiteRT. Raises :class:`ArtifactError` for a damaged file, :class:`InvalidInput` where a
    shape is missing, :class:`~leti.core.errors.TooLarge` for more operators or constants than are read.
    """
    file = TfliteFile(source if isinstance(source, bytes) else _opened(source))
    draft = Draft()
    values = Values(file, draft, open_shapes(source, file, input_shapes))
    for number in file.inputs:
        values.set(number, draft.input(values.type(number)))
    for operator in file.operators():
        _place(Site(values, operator), operator, values)
    draft.outputs = [values.number(number) for number in file.outputs]
    if not draft.outputs:
        raise damaged("it returns nothing")
    return draft


def _opened(path: Path) -> bytes | mmap.mmap:
    """Return what a file holds: a large one is mapped, though a process that reads where it was cut off is killed."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _MOST_READ_BYTES:
                return file.read(_MOST_READ_BYTES)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # a large file that has become empty
        raise ArtifactError("is no TFLite model file", field=FIELD) from error
    except OSError as error:
        raise InvalidInput(f"cannot be read: {error.strerror}", field=FIELD, remedy="give a file") from error


def _place(site: Site, operator: FileOperator, values: Values) -> None:
    row = OPERATORS.get(operator.name)
    try:
        made = site.unknown() if row is None else row(site)
    except NoCounterpart:
        made = site.unknown()
    for number, operand in zip(operator.outputs, made, strict=False):  # some kernels have a workspace for an output
        stated = values.type(number)
        shape = operand.shape if isinstance(operand, Constant) else values.draft.types[operand].shape
        site.require(shape == stated.shape, f"makes {shape}, not {stated.shape}")
        values.set(number, operand)
