"""TFLite export: Graph → model file, the flatbuffer written directly by LiteRT's own schema module.

The file holds the operators that the TensorFlow converter would write for the same network, activations inside the
operator before them where that takes them and nothing else reads it. Filters lie as (out, height, width, in), those of
fully connected layers as (out, in). The precision is the graph's own (:func:`~leti.generator.precision.quantize`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from leti.core.codec import to_json
from leti.core.errors import InvalidGraph, TooLarge
from leti.core.graph import Graph
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.export.tflite.calibration import calibrate, representative_data
from leti.generator.export.tflite.forms import form_of
from leti.generator.export.tflite.precisions import quantize_activations, store_weights
from leti.generator.export.tflite.site import Site
from leti.generator.export.tflite.versions import set_versions
from leti.generator.export.tflite.writer import FILE_IDENTIFIER, Program
from leti.generator.precision import precision_of
from leti.generator.weights import Array, Weights, check_weights, random_weights

__all__ = ["FILE_IDENTIFIER", "MAX_PARAMS", "METADATA_FORMAT", "METADATA_NAME", "export_tflite"]

METADATA_NAME = "leti.network"
METADATA_FORMAT = 1
MAX_PARAMS = 400_000_000
"""1.6 GB of weights: a flatbuffer is at most 2 GiB, and writing one holds three times its bytes in memory."""

_NARROW = ("float16", "bfloat16")


def export_tflite(
    graph: Graph,
    *,
    seed: int = 0,
    weights: Weights | None = None,
    source: tuple[NetworkSpec, Zero] | None = None,
    representative: Iterable[Sequence[Array]] | None = None,
) -> bytes:
    """Return the model file of a graph, in the precision that the graph has.

    ``weights`` holds a tuple of arrays for each operator of the graph, of the shapes that
    :func:`~leti.generator.cost.weight_shapes` gives; without them,
    :func:`~leti.generator.weights.random_weights` of ``seed``. ``source``, the spec and what its ``none`` does, is
    written into the file's metadata, with the graph's precision, so that the importer can tell what it is. A graph of
    int8 activations is run in float32 on ``representative`` data, an array for each input a sample, to learn their
    ranges; without it, on normal data of ``seed``. Raises
    :class:`~leti.core.errors.InvalidInput` for weights that do not fit, :class:`InvalidGraph` for an operator that has
    no TFLite form, :class:`TooLarge` for a graph of more than :data:`MAX_PARAMS` parameters.
    """
    if graph.params > MAX_PARAMS:
        raise TooLarge(f"has {graph.params} parameters", field="params", remedy=f"at most {MAX_PARAMS}")
    if weights is None:
        weights = random_weights(graph, seed)
    check_weights(graph, weights)
    program = _program(graph, weights)
    if any(tensor.dtype == "int8" for tensor in program.tensors):
        data = representative_data(program, seed) if representative is None else representative
        quantize_activations(program, calibrate(program, data))
    store_weights(program)
    set_versions(program)
    return program.pack([(METADATA_NAME, _describe(graph, *source))] if source is not None else [])


def _program(graph: Graph, weights: Weights) -> Program:
    """Return the builtin operators of a graph."""
    program = Program()
    program.inputs = [program.tensor(f"input{i}", t.shape, t.dtype) for i, t in enumerate(graph.inputs)]
    values = list(program.inputs)
    half = any(op.get("weight_dtype", "") == "float16" for op in graph.ops)
    for number, (op, sources, arrays) in enumerate(zip(graph.ops, graph.wiring, weights, strict=True)):
        if op.kind != "cast" and op.outputs[0].dtype in _NARROW:
            raise InvalidGraph(
                f"{op.kind} makes {op.outputs[0].dtype}, in which LiteRT does not compute",
                field=f"ops[{number}]",
                remedy="give a float32 network; the precision float16 stores its weights so",
            )
        site = Site(program, number, op, [values[source] for source in sources], arrays, "float16" if half else "")
        made = form_of(op)(site)
        made = (made,) if isinstance(made, int) else made
        for tensor, tensor_type in zip(made, op.outputs, strict=True):
            if program.tensors[tensor].shape != tensor_type.shape:
                raise InvalidGraph(
                    f"{op.kind} makes {program.tensors[tensor].shape}, not {tensor_type.shape}", field=f"ops[{number}]"
                )
        values.extend(made)
    program.outputs = [values[output] for output in graph.outputs]
    program.fold_additions()
    program.fold_reshapes()
    program.fuse_activations()
    return program


def _describe(graph: Graph, spec: NetworkSpec, zero: Zero) -> bytes:
    values = {
        "format": METADATA_FORMAT,
        "spec": to_json(spec),
        "zero": zero,
        "fingerprint": graph.fingerprint(),
    }
    precision = precision_of(graph)
    if precision != "float32":  # files of float32 say nothing of it, as they did before there were others
        values["precision"] = precision
    return json.dumps(values, separators=(",", ":")).encode()
