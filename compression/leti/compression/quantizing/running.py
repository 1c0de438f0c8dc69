"""Model files run on the runtime that they are for: what they compute, to be held against the network in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from leti.compression.quantizing.backends import QuantizedModel
from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.device_agents.desktop.pt2 import read_program
from leti.generator.export.onnx.exporter import input_orders
from leti.generator.export.torch.exporter import torch_program
from leti.generator.orders import channels_first, channels_last, identity
from leti.generator.weights import Array, random_weights

with needs("compression"):
    import numpy as np
    import onnxruntime
    import torch
    from ai_edge_litert.interpreter import Interpreter


def file_outputs(model: QuantizedModel, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return what a quantised file makes of inputs; see :func:`outputs_of_file`."""
    return outputs_of_file(model.content, model.format, model.source, inputs)


def outputs_of_file(
    content: bytes, model_format: ModelFormat, graph: Graph, inputs: Sequence[Array]
) -> tuple[Array, ...]:
    """Return what the file of a graph makes of inputs, images channels last, as the float32 ``graph`` has them.

    ``inputs`` are an array for each input of the graph, of any multiple of its batch; the file is run once a batch, on
    one thread. Raises :class:`~leti.core.errors.InvalidInput` for inputs that do not fit.
    """
    counts = {len(a) / t.shape[0] for a, t in zip(inputs, graph.inputs, strict=False)}
    fits = len(inputs) == len(graph.inputs) and all(
        a.shape[1:] == t.shape[1:] for a, t in zip(inputs, graph.inputs, strict=True)
    )
    if not fits or len(counts) != 1 or not next(iter(counts)).is_integer():
        raise InvalidInput("do not fit the network's", field="inputs", remedy=str([t.shape for t in graph.inputs]))
    run = _RUNTIMES[model_format](content, graph)
    batches = [
        run([a[i * t.shape[0] : (i + 1) * t.shape[0]] for a, t in zip(inputs, graph.inputs, strict=True)])
        for i in range(int(counts.pop()))
    ]
    return tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))


Run = Callable[[Sequence[Array]], Sequence[Array]]


def _litert(content: bytes, graph: Graph) -> Run:
    model = Interpreter(model_content=content, num_threads=1)
    model.allocate_tensors()
    runner = model.get_signature_runner() if model.get_signature_list() else None
    if runner is None:
        raise InvalidInput("has no signature", field="model", remedy="a file of the generator's writer")

    def run(batch: Sequence[Array]) -> Sequence[Array]:
        made = runner(**{f"input{i}": array for i, array in enumerate(batch)})
        return [made[f"output{i}"] for i in range(len(graph.outputs))]

    return run


def _onnxruntime(content: bytes, graph: Graph) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    orders = input_orders(graph)
    shapes = _output_shapes(graph)

    def run(batch: Sequence[Array]) -> Sequence[Array]:
        named = {f"input{i}": array.transpose(orders[i]) for i, array in enumerate(batch)}
        made = session.run([f"output{i}" for i in range(len(graph.outputs))], named)
        # Images are returned channels first where they lie so; what they are in the graph tells.
        pairs = zip(made, shapes, strict=True)
        return [a if a.shape == shape else a.transpose(channels_last(a.ndim)) for a, shape in pairs]

    return run


def _pytorch(content: bytes, graph: Graph) -> Run:
    """Run a program that the generator's exporter wrote."""
    module = read_program(content).module
    wanted = torch_program(graph, random_weights(graph, 0)).wanted
    orders = [channels_first(len(t.shape)) if wanted[i] else identity(len(t.shape)) for i, t in enumerate(graph.inputs)]
    shapes = _output_shapes(graph)

    def run(batch: Sequence[Array]) -> Sequence[Array]:
        given = [
            torch.from_numpy(np.ascontiguousarray(a.transpose(order))) for a, order in zip(batch, orders, strict=True)
        ]
        with torch.inference_mode():
            made = [tensor.numpy() for tensor in module(*given)]
        pairs = zip(made, shapes, strict=True)
        return [a if a.shape == shape else a.transpose(channels_last(a.ndim)) for a, shape in pairs]

    return run


def _output_shapes(graph: Graph) -> list[tuple[int, ...]]:
    types = graph.value_types
    return [types[value].shape for value in graph.outputs]


_RUNTIMES: Final[Mapping[ModelFormat, Callable[[bytes, Graph], Run]]] = MappingProxyType(
    {"tflite": _litert, "onnx": _onnxruntime, "pt2": _pytorch}
)
