"""How a command reads a network: a model file, a spec as JSON, or an architecture string of a search space."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leti.cli.options import read_config, read_json
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.spec import NetworkConfig
from leti.core.wire import Zero

if TYPE_CHECKING:
    from leti.generator.importers import Imported, InputShapes

NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="Model (.tflite, .onnx, .keras, .pt2), spec (.json), or NAS-Bench-201 architecture string.",
        metavar="NETWORK",
    ),
]
InputShapesOption = Annotated[
    list[str] | None,
    typer.Option("--input-shape", help="Shape that the model leaves open: 1,224,224,3 or NAME=1,3,224,224."),
]


def read_network(
    text: str,
    *,
    config: str = "",
    zero: Zero = "execute",
    input_shapes: Sequence[str] | None = None,
    weights: bool = False,
    fold: bool = True,
) -> Imported:
    """Return the graph of what the user names, with weights where it has them and they are asked for.

    ``config`` and ``zero`` say what a point of a search space is; ``input_shapes`` and ``fold`` go with model files.
    """
    with needs("export"):
        from leti.generator.importers import Imported, import_model
        from leti.generator.lowering import lower
        from leti.generator.spaces import parse_network
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "2"), ("TF_ENABLE_ONEDNN_OPTS", "0")):
        os.environ.setdefault(name, value)  # Keras's backend greets in ten lines, four of them about oneDNN
    path = Path(text)
    if not text.startswith("|") and path.suffix != ".json":
        return import_model(path, weights=weights, input_shapes=read_shapes(input_shapes or ()), fold=fold)
    if input_shapes:
        raise InvalidInput("goes with model files", field="--input-shape", remedy="a space's shapes are in --config")
    if text.startswith("|"):
        value = text
    elif path.is_file():
        value = read_json(path.read_bytes(), f"network ({path.name})")
    else:
        raise InvalidInput(f"no file {text!r}", field="network", remedy="give a model, a spec or an architecture")
    graph = lower(parse_network(value, "network", read_config(config) or NetworkConfig()), zero)
    return Imported(graph, ("",) * len(graph.ops))


def read_shapes(texts: Sequence[str]) -> InputShapes:
    """Return the shapes that ``--input-shape`` gives, by the input's name; "" is the only input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            shape = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            shape = ()
        if not shape or any(size < 1 for size in shape):
            raise InvalidInput(
                f"{text[:80]!r} is no shape",
                field="--input-shape",
                remedy="write it as 1,224,224,3 or NAME=1,3,224,224",
            )
        if name in shapes:
            raise InvalidInput(f"is given twice for {name or 'the only input'!r}", field="--input-shape")
        shapes[name] = shape
    return shapes
