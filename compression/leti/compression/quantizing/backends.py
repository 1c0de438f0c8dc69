"""Post-training quantisation: a network becomes a file in fewer bits, by one of three back ends.

- ``litert``: LiteRT's own quantizer, on the float32 file that the generator writes. Its static ranges are moving
  averages over samples, where the others span them all.
- ``onnxruntime``: ONNX Runtime's ``quantize_static`` and ``quantize_dynamic``, on the generator's .onnx file.
- ``leti``: the generator's own writer, which needs no quantizer installed.

What a file makes of a network is one :class:`Graph`, whichever back end wrote it: that of
:func:`leti.generator.precision.quantize`, which predictors price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final, get_args

from leti.compression.quantizing.litert import litert_quantized
from leti.compression.quantizing.onnx import onnx_quantized
from leti.compression.quantizing.recipes import Method, QuantizationRecipe, Samples
from leti.core.device import ModelFormat, ModelPrecision
from leti.core.errors import InvalidInput
from leti.core.graph import Graph
from leti.generator.export.tflite import export_tflite
from leti.generator.importers import Imported
from leti.generator.precision import quantized
from leti.generator.weights import Array

Backend = Literal["litert", "onnxruntime", "leti"]

_PRECISIONS: Final[Mapping[Method, ModelPrecision]] = MappingProxyType(
    {"static": "full_integer", "dynamic": "dynamic_range", "float16": "float16", "weight_only": "float32"}
)
"""What a network computes in: of weights alone, what is stored so is float again before anything is computed."""


@final
@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """A quantised file, and the record of what was done.

    ``source`` is the float32 graph, and ``graph`` what runs, as predictors price it; they know whole numbers of 8 bits,
    and 4 are taken for as many. ``is_simulated`` says that processors make all sums in float32: the file is smaller,
    and not faster. ``float_bytes`` is the size of the same network's float32 file in the same format. ``samples`` were
    looked at to find ranges of activations.
    """

    content: bytes
    format: ModelFormat
    backend: Backend
    recipe: QuantizationRecipe
    source: Graph
    graph: Graph
    float_bytes: int
    samples: int

    @property
    def is_simulated(self) -> bool:
        """Whether runtimes on a processor compute in float32 throughout."""
        return self.recipe.method in ("float16", "weight_only")

    @property
    def record(self) -> str:
        """What was done, in words."""
        recipe = self.recipe
        done = [f"{recipe.method} by {self.backend}", f"weights of {recipe.weight_bits} bits"]
        if recipe.method != "float16":
            done.append("a scale each output channel" if recipe.per_channel else "a scale each tensor")
        if recipe.method == "static":
            kind = "symmetric" if recipe.symmetric_activations else "asymmetric"
            done.append(f"{kind} activations of 8 bits, ranges of {self.samples} samples")
        if recipe.kept:
            done.append(f"operators {', '.join(map(str, recipe.kept))} in float32")
        done.append(f"{self.float_bytes} bytes became {len(self.content)}")
        if self.is_simulated:
            done.append("sums are made in float32: smaller, not faster")
        return "; ".join(done)


def quantize_model(
    imported: Imported,
    recipe: QuantizationRecipe,
    *,
    backend: Backend = "litert",
    samples: Iterable[Sequence[Array]] = (),
) -> QuantizedModel:
    """Return a network quantised after training.

    ``samples`` are what ranges of activations are found on, an array for each input of the graph a sample (images
    channels last, whatever the format): ``static`` asks for at least one. Raises
    :class:`~leti.core.errors.InvalidInput` for a back end that is none, a recipe that it has not, samples that are
    missing or do not fit, and weights that are missing.
    """
    if backend not in get_args(Backend):
        raise InvalidInput(f"is {backend!r}", field="backend", remedy=", ".join(get_args(Backend)))
    imported.loaded_weights()
    recipe.check(imported.graph)
    taken = tuple(tuple(sample) for sample in samples) if recipe.method == "static" else ()
    if recipe.method == "static" and not taken:
        raise InvalidInput("are missing, on which ranges are found", field="samples", remedy="give at least one")
    shapes = tuple(tensor_type.shape for tensor_type in imported.graph.inputs)
    for number, sample in enumerate(taken):
        if tuple(array.shape for array in sample) != shapes:
            raise InvalidInput("does not fit the network's inputs", field=f"samples[{number}]", remedy=str(shapes))
    model_format, write = _BACKENDS[backend]
    content, float_bytes = write(imported, recipe, taken)
    graph = quantized(imported.graph, _PRECISIONS[recipe.method], kept=recipe.kept_in(imported.graph)).graph
    return QuantizedModel(content, model_format, backend, recipe, imported.graph, graph, float_bytes, len(taken))


def _leti_quantized(imported: Imported, recipe: QuantizationRecipe, samples: Samples) -> tuple[bytes, int]:
    """Return the generator's own file and the bytes of its float32 file."""
    recipe.refuse_unless(recipe.method != "weight_only", "method", "the back end litert stores weights alone so")
    recipe.refuse_unless(recipe.per_channel, "per_channel", "the writer gives every channel its scale")
    recipe.refuse_unless(not recipe.symmetric_activations, "symmetric_activations", "the writer's have zero points")
    recipe.refuse_unless(recipe.weight_bits in (8, 16), "weight_bits", "the writer knows 8 bits, and 16 as floats")
    made = quantized(imported.graph, _PRECISIONS[recipe.method], kept=recipe.kept_in(imported.graph))
    weights = imported.loaded_weights()
    content = export_tflite(made.graph, weights=made.weights(weights), representative=samples or None)
    return content, len(export_tflite(imported.graph, weights=weights))


_Write = Callable[[Imported, QuantizationRecipe, Samples], tuple[bytes, int]]
_BACKENDS: Final[Mapping[Backend, tuple[ModelFormat, _Write]]] = MappingProxyType(
    {
        "litert": ("tflite", litert_quantized),
        "onnxruntime": ("onnx", onnx_quantized),
        "leti": ("tflite", _leti_quantized),
    }
)
"""What each back end writes, and what writes it: a function to the file and the bytes of its float32 twin."""
