"""Keras 3 import: functional and sequential models, from a .keras file or from memory, become a draft.

The model's own graph is walked: each call of a layer or operation is placed by the tables in ``keras_layers`` and
``keras_operations``, nested models call by call. A layer that is called several times is placed each time, with its
weights, for they are read each time: ``params`` counts them again, where ``count_params`` does not. A file's weights
are read only when somebody asks for their values.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np

from leti.core.errors import ArtifactError, InvalidInput, LetiError
from leti.core.extras import needs
from leti.core.graph import DTYPE_BITS, TensorType
from leti.generator.importers.draft import Draft
from leti.generator.importers.keras.file import read_config
from leti.generator.importers.keras.layers import LAYERS, SHAPES
from leti.generator.importers.keras.operations import OPERATIONS
from leti.generator.importers.keras.placing import Placing, Value
from leti.generator.weights import Array

with needs("import-keras"):
    import keras

T = TypeVar("T")

_FIELD = "model"
_NO_GRAPH = "wrap it in a functional model (keras.Model(inputs, outputs)), or export it to ONNX or TFLite"
_ASK_SHAPE = "say the whole shape, batch included: --input-shape, or input_shapes={name: shape}"
_SPARE_BYTES = 2**20  # files are larger than what they hold; a model is not refused for a few numbers that are missing


def read_keras(source: Path | object, input_shapes: Mapping[str, tuple[int, ...]]) -> Draft:
    """Return the draft of a .keras file or a Keras model.

    ``input_shapes`` give inputs by name, "" the only one, batch included and in the model's own layout; an open batch
    is 1 where nothing is given. A file is loaded without running code from outside Keras,
    see :mod:`leti.generator.importers.keras.file`.

    Raises :class:`ArtifactError` for a damaged file, :class:`TooLarge` for one over the limits, and
    :class:`InvalidInput` for custom classes, models without a graph, and shapes that are missing or do not fit.
    """
    return _in_own_thread(lambda: _read(source, input_shapes))


def _read(source: Path | object, input_shapes: Mapping[str, tuple[int, ...]]) -> Draft:
    if isinstance(source, Path):
        model = _outline(source)
        return _Reader(_file_values(source, model)).read(model, input_shapes)
    if not isinstance(source, keras.Model):
        raise InvalidInput(f"a {type(source).__name__} is no Keras 3 model", field=_FIELD, remedy="give a keras.Model")
    return _Reader(_values).read(source, input_shapes)


def _in_own_thread(work: Callable[[], T]) -> T:
    """Run what changes Keras's state (names given out, scopes, variables without values): each thread has its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _outline(path: Path) -> Any:
    """Return the model of a file with variables that have no values: a file's few bytes can name terabytes of them."""
    config, weight_bytes = read_config(path)
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except LetiError:
        raise
    except Exception as error:  # configurations fail in every way that Keras's constructors can
        raise ArtifactError(f"cannot be rebuilt by Keras: {_first_line(error)}", field=_FIELD) from error
    if not isinstance(model, keras.Model):
        raise ArtifactError(f"holds a {type(model).__name__}, not a model", field=_FIELD)
    named = sum(int(np.prod(w.shape)) * DTYPE_BITS.get(str(w.dtype), 32) // 8 for w in model.weights)
    if named > weight_bytes + _SPARE_BYTES:
        raise ArtifactError(f"names {named} bytes of weights and holds {weight_bytes}", field=_FIELD)
    return model


def _file_values(path: Path, outline: Any) -> Callable[[Any], Array]:
    """Return what reads a variable's values from the file, all of which is loaded at the first."""
    numbers = {id(variable): i for i, variable in enumerate(outline.weights)}

    @functools.cache
    def loaded() -> Sequence[Any]:
        try:
            model = _in_own_thread(lambda: keras.models.load_model(path, compile=False, safe_mode=True))
        except Exception as error:  # HDF5's, numpy's and Keras's own
            raise ArtifactError(f"its weights cannot be read: {_first_line(error)}", field=_FIELD) from error
        found: Sequence[Any] = model.weights
        return found

    return lambda variable: _values(loaded()[numbers[id(variable)]] if id(variable) in numbers else variable)


def _values(tensor: Any) -> Array:
    """Return the values of a variable or tensor of the backend's; narrow floats as float32."""
    if isinstance(tensor, keras.Variable | keras.KerasTensor) or keras.ops.is_tensor(tensor):
        wide = keras.ops.cast(tensor, "float32") if str(tensor.dtype) in ("bfloat16", "float16") else tensor
        return np.asarray(keras.ops.convert_to_numpy(wide))
    return np.asarray(tensor)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}"


@final
class _Reader:
    """Walks a model's graph and places its calls in a draft."""

    def __init__(self, read: Callable[[Any], Array]) -> None:
        self._draft = Draft()
        self._read = read

    def read(self, model: Any, input_shapes: Mapping[str, tuple[int, ...]]) -> Draft:
        types = _input_types(model, input_shapes)
        inputs = [Value(self._draft.input(given), given) for given in types]
        self._draft.outputs = [value.number for value in self._model(model, inputs, "")]
        return self._draft

    def _model(self, model: Any, inputs: Sequence[Value], prefix: str) -> list[Value]:
        """Place every call of a model; return its outputs."""
        function = keras.Function(model.inputs, model.outputs)
        masks = [mask for node in _calls(function) for mask in _implied_masks(node).values()]
        if masks:
            function = keras.Function(model.inputs, [*model.outputs, *masks])
        values = {id(tensor): value for tensor, value in zip(function.inputs, inputs, strict=True)}
        for node in _after_masks(_calls(function), set(values)) if masks else _calls(function):
            operation, name = node.operation, prefix + node.operation.name
            args, kwargs = keras.tree.map_structure(
                lambda item: values[id(item)] if isinstance(item, keras.KerasTensor) else item,
                (node.arguments.args, node.arguments.kwargs | _implied_masks(node)),
            )
            if _is_nested(operation):
                given = [item for item in keras.tree.flatten(args) if isinstance(item, Value)]
                made: Sequence[Value] = self._model(operation, given, f"{name}/")
            else:
                types = _output_types(node, name, [values[id(tensor)] for tensor in node.input_tensors], args, kwargs)
                place = Placing(self._draft, name, types, self._read, self._call_of_layer)
                made = self._call(place, operation, args, kwargs)
            values.update(zip(map(id, node.outputs), made, strict=True))
        return [values[id(tensor)] for tensor in function.outputs[: len(function.outputs) - len(masks)]]

    def _call_of_layer(self, place: Placing, layer: Any, args: tuple[Any, ...]) -> tuple[Value, ...]:
        return self._call(place, layer, args, {})

    def _call(
        self, place: Placing, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Value, ...]:
        """Place one call; a layer or operation that has no rule, or is used as none foresees, is kept as unknown."""
        kind, layer = type(operation).__name__, isinstance(operation, keras.Layer)
        if _is_nested(operation):
            inputs = [item for item in keras.tree.flatten(args) if isinstance(item, Value)]
            return tuple(self._model(operation, inputs, f"{place.name}/"))
        said = {name: value for name, value in kwargs.items() if value is not None and name != "training"}
        rule = (LAYERS if layer else OPERATIONS).get(kind) if _of_keras(operation) else None
        if rule is not None and not _rewired(operation):
            args, said = self._autocast(place, operation, args, said) if layer else (args, said)
            placed = rule(place, operation, *args, **said)
            if placed is not None:
                return (placed,) if isinstance(placed, Value) else tuple(placed)
        inputs = [item for item in keras.tree.flatten((args, said)) if isinstance(item, Value)]
        return place.unknown(kind, inputs, [place.weight(w) for w in operation.weights] if layer else ())

    def _autocast(self, place: Placing, layer: Any, args: Any, kwargs: Any) -> Any:
        """Place the casts that a layer of another precision makes of what it is given."""
        precision = layer.compute_dtype
        if not layer.autocast or precision not in ("float16", "bfloat16", "float32", "float64"):
            return args, kwargs

        def cast(item: Any) -> Any:
            return place.cast(item, precision) if isinstance(item, Value) and "float" in item.type.dtype else item

        return keras.tree.map_structure(cast, (args, kwargs))


def _of_keras(operation: Any) -> bool:
    return type(operation).__module__.partition(".")[0] == "keras"


def _rewired(operation: Any) -> bool:
    """Return whether a layer computes with other weights than its own: quantised ones, or a low-rank update."""
    return bool(getattr(operation, "quantization_mode", None) or getattr(operation, "lora_enabled", False))


def _has_graph(model: Any) -> bool:
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _is_nested(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and _has_graph(operation)


def _input_types(model: Any, given: Mapping[str, tuple[int, ...]]) -> list[TensorType]:
    """Return the type of each input, as the model or else ``given`` says."""
    if not _has_graph(model):
        raise InvalidInput(f"{type(model).__name__} has no graph to read: it is code", field=_FIELD, remedy=_NO_GRAPH)
    if isinstance(model, keras.Sequential) and not model.built:
        if "" not in given:
            raise InvalidInput("takes any shape", field="input_shapes", remedy=_ASK_SHAPE)
        model.build((None, *given[""][1:]))
    names = [tensor.name for tensor in model.inputs]
    for name in given:
        if name not in names and not (name == "" and len(names) == 1):
            raise InvalidInput(f"{name!r} is no input", field="input_shapes", remedy=f"name one of {', '.join(names)}")
    types = []
    for tensor in model.inputs:
        shape = given.get(tensor.name, given.get("") if len(names) == 1 else None)
        if shape is None:
            shape = (1, *tensor.shape[1:]) if tensor.shape[:1] == (None,) else tensor.shape
        fits = len(shape) == len(tensor.shape) and all(
            own is None or own == n for own, n in zip(tensor.shape, shape, strict=True)
        )
        if not fits:
            raise InvalidInput(
                f"input {tensor.name!r} is {tensor.shape}, not {tuple(shape)}",
                field="input_shapes",
                remedy=_ASK_SHAPE,
            )
        if None in shape:
            written = ",".join("?" if n is None else str(n) for n in shape)
            raise InvalidInput(
                f"input {tensor.name!r} leaves dimensions open: {tensor.shape}",
                field="input_shapes",
                remedy=f"give it: --input-shape {tensor.name}={written}",
            )
        types.append(TensorType(tuple(map(int, shape)), str(tensor.dtype)))
    return types


def _calls(function: Any) -> list[Any]:
    """Return the calls of layers and operations in a function's graph, in topological order."""
    by_depth = function._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _after_masks(calls: Sequence[Any], known: set[int]) -> Iterator[Any]:
    """Yield calls, those of attention after the masks that it reads as well: Keras's order does not know of them."""
    waiting, put_off = deque(calls), 0
    while waiting and put_off <= len(waiting):
        node = waiting.popleft()
        if all(id(tensor) in known for tensor in (*node.input_tensors, *_implied_masks(node).values())):
            known.update(map(id, node.outputs))
            put_off = 0
            yield node
        else:
            waiting.append(node)
            put_off += 1


def _implied_masks(node: Any) -> dict[str, Any]:
    """Return the masks that attention finds on the tensors it is given, by the argument that they stand for."""
    if type(node.operation).__name__ != "MultiHeadAttention":
        return {}
    given = dict(zip(("query", "value", "key"), node.arguments.args, strict=False)) | node.arguments.kwargs
    found = {f"{name}_mask": getattr(given.get(name), "_keras_mask", None) for name in ("query", "value", "key")}
    return {name: mask for name, mask in found.items() if mask is not None and name not in node.arguments.kwargs}


def _output_types(node: Any, name: str, inputs: Sequence[Value], args: Any, kwargs: Any) -> tuple[TensorType, ...]:
    """Return the types of what a call returns: as the model's graph says, or asked anew where that leaves them open."""
    operation, batch = node.operation, inputs[0].shape[0] if inputs and inputs[0].shape else 1
    given = all(
        _closed(tensor.shape, batch) == value.shape for tensor, value in zip(node.input_tensors, inputs, strict=True)
    )
    # Operations may fold the batch into another dimension; layers keep it the first.
    kept = isinstance(operation, keras.Layer) or all(
        None not in made.shape or made.shape in [tensor.shape for tensor in node.input_tensors] for made in node.outputs
    )
    shapes = [_closed(made.shape, batch) for made in node.outputs]
    if not (given and kept) or any(None in shape for shape in shapes):
        rule = SHAPES.get(type(operation).__name__) if _of_keras(operation) else None
        shapes = [rule(operation, inputs[0].shape)] if rule else _asked(operation, name, args, kwargs)
    return tuple(TensorType(shape, str(made.dtype)) for shape, made in zip(shapes, node.outputs, strict=True))


def _closed(shape: Sequence[int | None], batch: int) -> tuple[Any, ...]:
    return (batch, *shape[1:]) if shape and shape[0] is None else tuple(shape)


def _asked(operation: Any, name: str, args: Any, kwargs: Any) -> list[tuple[int, ...]]:
    """Return the shapes that an operation makes of the shapes at hand; nothing is noted on it."""
    args, kwargs = keras.tree.map_structure(
        lambda item: keras.KerasTensor(item.shape, item.type.dtype) if isinstance(item, Value) else item,
        (args, kwargs),
    )
    try:
        made = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
    except (ValueError, TypeError, IndexError, ArithmeticError, NotImplementedError) as error:
        raise InvalidInput(f"layer {name!r} does not take it: {_first_line(error)}", field="input_shapes") from error
    for tensor in made:
        if None in tensor.shape:
            raise InvalidInput(f"layer {name!r} makes a shape that depends on data: {tensor.shape}", field=_FIELD)
    return [tuple(map(int, tensor.shape)) for tensor in made]
