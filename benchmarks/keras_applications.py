"""Import every image model of ``keras.applications`` and print what it costs beside what Keras counts.

Each model is built with ``weights=None``, its default input and its classifier, then imported without folding.
MACs are multiply-accumulates of a batch of one; the column beside them counts them from the layers' own kernels and
output shapes, without the importer. Prints a Markdown table; takes some two minutes on one core::

    python benchmarks/keras_applications.py [NAME …]
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import keras

from leti.generator.importers import import_model

_OPEN_INPUT = (1, 224, 224, 3)  # of models that take images of any size, the size they were published with


def models() -> list[str]:
    """Return the names of the applications, in alphabetic order."""
    found = vars(keras.applications)
    return sorted(name for name in found if name[0].isupper() and callable(found[name]))


def count_macs(model: Any) -> int:
    """Count multiply-accumulates layer by layer from kernels and output shapes, as Keras states them."""
    total = 0
    for layer in model._flatten_layers(include_self=False):
        names = ("kernel", "depthwise_kernel", "pointwise_kernel")
        kernels = [getattr(layer, name).shape for name in names if getattr(layer, name, None) is not None]
        if not kernels:
            continue
        shape = layer.output.shape if None not in layer.output.shape[1:] else ()
        positions = math.prod(shape[1:-1])
        total += positions * sum(map(math.prod, kernels))
    return total


def main(names: list[str]) -> None:
    """Print the table."""
    print(
        "| model | input | MACs, G | by layers, G | params | count_params | unknown operators | build, s | import, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names or models():
        started = time.perf_counter()
        model = getattr(keras.applications, name)(weights=None)
        built = time.perf_counter()
        shapes = {"": _OPEN_INPUT} if None in model.inputs[0].shape[1:] else {}
        graph = import_model(model, fold=False, input_shapes=shapes).graph
        imported = time.perf_counter()
        if shapes:  # the layers of a model of any size have no output shapes; those of the same model at one size do
            model = getattr(keras.applications, name)(weights=None, input_shape=_OPEN_INPUT[1:])
        row = (
            *(name, f"{graph.inputs[0].shape[1]}²", f"{graph.macs / 1e9:.4f}", f"{count_macs(model) / 1e9:.4f}"),
            *(f"{graph.params:,}", f"{model.count_params():,}", ", ".join(graph.unknown) or "none"),
            *(f"{built - started:.1f}", f"{imported - built:.2f}"),
        )
        print("|", " | ".join(row), "|", flush=True)
        keras.utils.clear_session()


if __name__ == "__main__":
    main(sys.argv[1:])
