"""LiteRT's quantizer as a back end: recipes in its terms, on the float32 file that the generator writes."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from leti.compression.quantizing.recipes import QuantizationRecipe, Samples
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph
from leti.generator.export.tflite import export_tflite
from leti.generator.export.tflite.writer import SIGNATURE
from leti.generator.importers import Imported
from leti.generator.precision import MIN_DYNAMIC_ELEMENTS

with needs("compression"):
    from litert_quantizer import qtyping, quantizer
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.recipe_manager import RecipeManager

_EVERY = ".*"


def litert_quantized(imported: Imported, recipe: QuantizationRecipe, samples: Samples) -> tuple[bytes, int]:
    """Return a quantised .tflite file and the bytes of the float32 file that it was made of."""
    content = export_tflite(imported.graph, weights=imported.loaded_weights())
    named = [{f"input{i}": array for i, array in enumerate(sample)} for sample in samples]
    try:
        with _quiet():
            model = quantizer.Quantizer(content, _recipe(imported.graph, recipe))
            ranges = model.calibrate({SIGNATURE: named}, num_threads=1) if named else None
            return bytes(model.quantize(ranges).quantized_model), len(content)
    except (ValueError, RuntimeError, KeyError) as error:
        raise InvalidInput(f"is not followed by LiteRT's quantizer: {error}", field="recipe") from error


def _recipe(graph: Graph, recipe: QuantizationRecipe) -> Any:
    """Return what the quantizer is asked: everything so, inputs and outputs float32, and operators that are kept."""
    asked, operations = RecipeManager(), qtyping.TFLOperationName
    algorithm = AlgorithmName.FLOAT_CASTING if recipe.method == "float16" else AlgorithmName.MIN_MAX_UNIFORM_QUANT
    asked.add_quantization_config(_EVERY, operations.ALL_SUPPORTED, _CONFIGS[recipe.method](recipe), algorithm)
    left = [(_EVERY, operations.INPUT), (_EVERY, operations.OUTPUT)] if recipe.method == "static" else []
    # Scopes are names of outputs; the writer begins those with kind and number of the graph's operator.
    kept = [f"(^|;){graph.ops[number].kind}{number}/" for number in recipe.kept_in(graph)]
    left += [(regex, operations.ALL_SUPPORTED) for regex in kept]
    for regex, operation in left:
        asked.add_quantization_config(regex, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return asked.get_quantization_recipe()


def _weights(recipe: QuantizationRecipe) -> Any:
    granularity = qtyping.QuantGranularity.CHANNELWISE if recipe.per_channel else qtyping.QuantGranularity.TENSORWISE
    return qtyping.TensorQuantizationConfig(recipe.weight_bits, symmetric=True, granularity=granularity)


def _static(recipe: QuantizationRecipe) -> Any:
    activations = qtyping.TensorQuantizationConfig(8, symmetric=recipe.symmetric_activations)
    return qtyping.OpQuantizationConfig(activations, _weights(recipe), qtyping.ComputePrecision.INTEGER)


def _dynamic(recipe: QuantizationRecipe) -> Any:
    return qtyping.OpQuantizationConfig(
        weight_tensor_config=_weights(recipe),
        compute_precision=qtyping.ComputePrecision.INTEGER,
        min_weight_elements=MIN_DYNAMIC_ELEMENTS,
    )


def _weight_only(recipe: QuantizationRecipe) -> Any:
    return qtyping.OpQuantizationConfig(weight_tensor_config=_weights(recipe), explicit_dequantize=True)


def _float16(recipe: QuantizationRecipe) -> Any:
    half = qtyping.TensorQuantizationConfig(recipe.weight_bits, dtype=qtyping.TensorDataType.FLOAT)
    return qtyping.OpQuantizationConfig(weight_tensor_config=half, explicit_dequantize=True)


_CONFIGS = {"static": _static, "dynamic": _dynamic, "weight_only": _weight_only, "float16": _float16}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer from printing, and the interpreter from warning that it keeps the tensors it is asked for."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*", category=UserWarning)
        yield
