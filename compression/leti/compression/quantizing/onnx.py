"""ONNX Runtime's quantizer as a back end, on the .onnx file that the generator writes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, final

from typing_extensions import override

from leti.compression.quantizing.affine import fitted
from leti.compression.quantizing.recipes import QuantizationRecipe, Samples
from leti.compression.quantizing.weights import weighted
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.export.onnx.exporter import export_onnx, input_orders
from leti.generator.importers import Imported

with needs("compression"):
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.transformers.float16 import convert_float_to_float16

_FILTERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})  # nodes that read filters second


def onnx_quantized(imported: Imported, recipe: QuantizationRecipe, samples: Samples) -> tuple[bytes, int]:
    """Return a quantised .onnx file and the bytes of the float32 file that it was made of."""
    recipe.refuse_unless(recipe.weight_bits in (8, 16), "weight_bits", "convolutions have no fewer than 8 bits")
    content = export_onnx(imported.graph, weights=imported.loaded_weights())
    model = onnx.load_from_string(content)
    kept = _kept(imported.graph, model, recipe.kept)
    try:
        made = {"static": _static, "dynamic": _dynamic, "float16": _float16, "weight_only": _weight_only}[recipe.method]
        quantized = made(imported.graph, model, recipe, kept, samples)
    except (ValueError, RuntimeError, KeyError) as error:
        raise InvalidInput(f"is not followed by ONNX Runtime's quantizer: {error}", field="recipe") from error
    return quantized, len(content)


def _kept(graph: Graph, model: onnx.ModelProto, numbers: Iterable[int]) -> list[str]:
    """Return the nodes of operators with filters, which stand in the file in the order of the graph."""
    constants = {constant.name for constant in model.graph.initializer}
    nodes = [n.name for n in model.graph.node if n.op_type in _FILTERS and n.input[1] in constants]
    operators = weighted(graph)
    found = []
    for number in numbers:
        if number not in operators or len(nodes) != len(operators):
            raise InvalidInput(
                "cannot be found in the ONNX file", field=f"recipe.kept[{number}]", remedy="an operator with filters"
            )
        found.append(nodes[operators.index(number)])
    return found


def _static(graph: Graph, model: Any, recipe: QuantizationRecipe, kept: list[str], samples: Samples) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            model,
            path,
            _Reader(graph, samples),
            per_channel=recipe.per_channel,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            extra_options={"ActivationSymmetric": recipe.symmetric_activations, "WeightSymmetric": True},
        )
        return path.read_bytes()


def _dynamic(graph: Graph, model: Any, recipe: QuantizationRecipe, kept: list[str], samples: Samples) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            model, path, per_channel=recipe.per_channel, weight_type=QuantType.QUInt8, nodes_to_exclude=kept
        )
        return path.read_bytes()


def _float16(graph: Graph, model: Any, recipe: QuantizationRecipe, kept: list[str], samples: Samples) -> bytes:
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    return bytes(half.SerializeToString())


def _weight_only(graph: Graph, model: Any, recipe: QuantizationRecipe, kept: list[str], samples: Samples) -> bytes:
    """Store filters as whole numbers, each with a node before what reads it that makes floats of them again."""
    axes = {"Gemm": 0, "MatMul": 1, "Conv": 0, "ConvTranspose": 1}  # where output channels lie
    constants = {constant.name: constant for constant in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type in _FILTERS and node.name not in kept and node.input[1] in constants:
            nodes.append(_restored(model, constants[node.input[1]], axes[node.op_type], recipe))
            node.input[1] = nodes[-1].output[0]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    left = [constant for constant in model.graph.initializer if constant.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)
    return bytes(model.SerializeToString())


def _restored(model: Any, constant: Any, axis: int, recipe: QuantizationRecipe) -> Any:
    """Add a filter's whole numbers and scales to a model, and return the node that makes floats of them."""
    filters = onnx.numpy_helper.to_array(constant)
    found = fitted(filters, axis=axis if recipe.per_channel else None)
    scales = found.scales if recipe.per_channel else found.scales.reshape(())
    names = [f"{constant.name}.{role}" for role in ("whole", "scales", "floats")]
    for name, array in zip(names, (found.quantized(filters).astype(np.int8), scales), strict=False):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    made = onnx.helper.make_node("DequantizeLinear", names[:2], names[2:], names[2])
    if recipe.per_channel:
        made.attribute.append(onnx.helper.make_attribute("axis", axis))
    return made


@final
class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples as ONNX Runtime reads them: by the names of the inputs, in the file's order of axes."""

    def __init__(self, graph: Graph, samples: Samples) -> None:
        self._orders = input_orders(graph)
        self._samples = iter(samples)

    @override
    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._samples, None)
        if sample is None:
            return None
        pairs = zip(sample, self._orders, strict=True)
        return {f"input{i}": array.transpose(order) for i, (array, order) in enumerate(pairs)}
