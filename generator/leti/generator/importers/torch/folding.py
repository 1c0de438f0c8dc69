"""What a program computes of constants alone (masks, positions, index tables): done while it is read, by numpy.

Views share memory as PyTorch's do, so that what is written into a view is seen in what it is a view of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from leti.core.errors import ArtifactError
from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.importers.torch.program import Argument, Name, ProgramNode
from leti.generator.weights import Array

with needs("import-torch"):
    import numpy as np

MOST_ELEMENTS = 2**24
"""Elements of a constant, above which it is not computed but kept as an operator."""

Given = Mapping[str, Any]
Fold = Callable[[Given, Sequence[TensorType]], Any]


def fold(
    name: str, node: ProgramNode, outputs: Sequence[TensorType], array: Callable[[str], Array], *, in_place: bool
) -> tuple[Array, ...]:
    """Return what an operator of :data:`FOLDS` makes of known tensors, an array an output.

    ``in_place`` says that its first argument is written to. Raises :class:`ArtifactError` where they do not fit.
    """
    given = {key: _resolved(argument, array) for key, argument in node.arguments.items()}
    try:
        with np.errstate(all="ignore"):
            _check_sizes(name, given, outputs)
            made = FOLDS[name](given, outputs)
            arrays = tuple(made) if isinstance(made, list | tuple) else (np.asarray(made),)
            if in_place:
                target = next(iter(given.values()))
                target[...] = arrays[0]
                return (target,)
            return tuple(_typed(array, kind) for array, kind in zip(arrays, outputs, strict=True))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, StopIteration) as error:
        raise ArtifactError(f"{node.target} cannot be computed: {error!s:.80}", field=node.layer) from error


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return numpy's type of a data type; bfloat16 is held as float32."""
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _resolved(argument: Argument, array: Callable[[str], Array]) -> Any:
    if isinstance(argument, Name):
        return array(argument.name)
    if isinstance(argument, tuple):
        return tuple(_resolved(item, array) for item in argument)
    return argument


def _check_sizes(name: str, given: Given, outputs: Sequence[TensorType]) -> None:
    """Raise ``ValueError`` where numpy would make more than the outputs that are stated."""
    made = outputs[0].elements
    if name in VIEWS or name in CREATES:
        return
    if name in _JOINS:
        expected = sum(array.size for array in given["tensors"])
    elif name == "meshgrid":
        expected = math.prod(array.size for array in given["tensors"])
    elif name == "repeat":
        expected = math.prod(given["repeats"]) * _first(given).size
    elif name == "outer":
        expected = _first(given).size * given["vec2"].size
    elif name == "index":
        arrays = {axis: array for axis, array in enumerate(given["indices"]) if array is not None}
        kept = [size for axis, size in enumerate(_first(given).shape) if axis not in arrays]
        expected = math.prod(np.broadcast_shapes(*(array.shape for array in arrays.values()))) * math.prod(kept)
    else:
        shapes = [np.shape(value) for value in given.values() if isinstance(value, np.ndarray)]
        expected = math.prod(np.broadcast_shapes(*shapes)) if shapes else made
    if expected != made:
        raise ValueError(f"makes {expected} elements, not {made}")


def _typed(array: Array, kind: TensorType) -> Array:
    if array.shape != kind.shape:
        raise ValueError(f"makes {array.shape}, not {kind.shape}")
    return array.astype(numpy_dtype(kind.dtype), copy=False)


def _first(given: Given) -> Array:
    return np.asarray(next(iter(given.values())))


def _unary(function: Callable[[Array], Any]) -> Fold:
    return lambda given, outputs: function(_first(given))


def _binary(function: Callable[[Any, Any], Any]) -> Fold:
    return lambda given, outputs: function(_first(given), given["other"])


def _scaled(function: Callable[[Any, Any], Any]) -> Fold:
    return lambda given, outputs: function(_first(given), np.multiply(given["other"], given.get("alpha", 1)))


def _full(value: Callable[[Given], Any]) -> Fold:
    return lambda given, outputs: np.full(outputs[0].shape, value(given), numpy_dtype(outputs[0].dtype))


def _arange(given: Given, outputs: Sequence[TensorType]) -> Array:
    (count,) = outputs[0].shape
    return np.asarray(given.get("start", 0) + given.get("step", 1) * np.arange(count))


def _linspace(given: Given, outputs: Sequence[TensorType]) -> Array:
    (count,) = outputs[0].shape
    return np.linspace(given["start"], given["end"], count)


def _reshape(given: Given, outputs: Sequence[TensorType]) -> Array:
    return _first(given).reshape(outputs[0].shape)


def _swap(given: Given, _outputs: Sequence[TensorType]) -> Array:
    array = _first(given)
    if array.ndim < 2:
        return array
    return array.swapaxes(given.get("dim0", -2), given.get("dim1", -1))


def _slice(given: Given, _outputs: Sequence[TensorType]) -> Array:
    axis, array = given.get("dim", 0), _first(given)
    window = slice(given.get("start"), given.get("end"), given.get("step", 1))
    return np.asarray(array[(slice(None),) * (axis % array.ndim) + (window,)])


def _select(given: Given, _outputs: Sequence[TensorType]) -> Array:
    array = _first(given)
    return np.asarray(array[(slice(None),) * (given["dim"] % array.ndim) + (given["index"], ...)])


def _index(given: Given, _outputs: Sequence[TensorType]) -> Array:
    return np.asarray(_first(given)[tuple(slice(None) if item is None else item for item in given["indices"])])


def _meshgrid(given: Given, _outputs: Sequence[TensorType]) -> list[Array]:
    return [np.asarray(part) for part in np.meshgrid(*given["tensors"], indexing=given.get("indexing", "ij"))]


def _parts(given: Given, outputs: Sequence[TensorType]) -> list[Array]:
    axis, array, start = given.get("dim", 0), _first(given), 0
    made = []
    for part in outputs:
        end = start + part.shape[axis]
        made.append(array[(slice(None),) * (axis % array.ndim) + (slice(start, end),)])
        start = end
    return made


def _unbind(given: Given, _outputs: Sequence[TensorType]) -> list[Array]:
    return list(np.moveaxis(_first(given), given.get("dim", 0), 0))


def _rounded(left: Any, right: Any, mode: str | None) -> Any:
    quotient = np.true_divide(left, right)
    return quotient if mode is None else _ROUNDING[mode](quotient)


def _triangle(function: Callable[[Array, int], Any]) -> Fold:
    return lambda given, outputs: function(_first(given), given.get("diagonal", 0))


_ROUNDING: Mapping[str, Callable[[Any], Any]] = {"floor": np.floor, "trunc": np.trunc}

VIEWS = frozenset(
    {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"}
    | {"expand", "expand_as", "broadcast_to", "permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT"}
    | {"slice", "select", "narrow", "movedim", "moveaxis", "diagonal", "unfold", "contiguous", "ravel"}
    | {"split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_split", "unsafe_chunk"}
)
"""Operators whose results may share memory with what they read."""

SAME = frozenset({"alias", "detach", "lift_fresh", "dropout", "feature_dropout", "alpha_dropout", "to", "type_as"})
"""Operators that may return what they read."""

FOLDS: Mapping[str, Fold] = MappingProxyType(
    {
        **dict.fromkeys(("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty"), _full(lambda _: 0)),
        **dict.fromkeys(("ones", "ones_like", "new_ones"), _full(lambda _: 1)),
        **dict.fromkeys(
            ("full", "full_like", "new_full", "fill"), _full(lambda given: given.get("fill_value", given.get("value")))
        ),
        **{"zero": _full(lambda _: 0), "scalar_tensor": _full(lambda given: given["s"])},
        **{
            "arange": _arange,
            "linspace": _linspace,
            "eye": lambda given, outputs: np.eye(outputs[0].shape[0], outputs[0].shape[1]),
        },
        **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshape),
        **dict.fromkeys(("view_as", "reshape_as", "ravel"), _reshape),
        **dict.fromkeys(
            ("expand", "expand_as", "broadcast_to"),
            lambda given, outputs: np.broadcast_to(_first(given), outputs[0].shape),
        ),
        "permute": lambda given, outputs: _first(given).transpose(given["dims"]),
        **dict.fromkeys(("transpose", "t", "numpy_T", "mT"), _swap),
        **{"slice": _slice, "select": _select, "index": _index, "meshgrid": _meshgrid, "unbind": _unbind},
        **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _parts),
        **{"cat": lambda given, outputs: np.concatenate(given["tensors"], given.get("dim", 0))},
        **{"stack": lambda given, outputs: np.stack(given["tensors"], given.get("dim", 0))},
        **{"flip": lambda given, outputs: np.flip(_first(given), given["dims"])},
        "roll": lambda given, outputs: np.roll(_first(given), given["shifts"], given.get("dims") or None),
        "repeat": lambda given, outputs: np.tile(_first(given), given["repeats"]),
        **{"tril": _triangle(np.tril), "triu": _triangle(np.triu)},
        **dict.fromkeys((*SAME, "contiguous"), _unary(lambda array: array)),
        **dict.fromkeys(("clone", "lift_fresh_copy", "_to_copy"), _unary(np.array)),
        "copy": lambda given, outputs: given["src"],
        **{"add": _scaled(np.add), "sub": _scaled(np.subtract), "mul": _binary(np.multiply)},
        "rsub": _binary(lambda left, right: np.subtract(right, left)),
        "div": lambda given, outputs: _rounded(_first(given), given["other"], given.get("rounding_mode")),
        "floor_divide": _binary(np.floor_divide),
        "remainder": _binary(np.remainder),
        "pow": lambda given, outputs: np.float_power(_first(given), given["exponent"]),
        **{"maximum": _binary(np.maximum), "minimum": _binary(np.minimum)},
        **{"eq": _binary(np.equal), "ne": _binary(np.not_equal), "lt": _binary(np.less), "le": _binary(np.less_equal)},
        **{"gt": _binary(np.greater), "ge": _binary(np.greater_equal)},
        **{"logical_and": _binary(np.logical_and), "logical_or": _binary(np.logical_or)},
        **{"bitwise_and": _binary(np.bitwise_and), "bitwise_or": _binary(np.bitwise_or)},
        **{"__and__": _binary(np.bitwise_and), "__or__": _binary(np.bitwise_or)},
        **{"logical_not": _unary(np.logical_not), "bitwise_not": _unary(np.invert), "neg": _unary(np.negative)},
        **{"exp": _unary(np.exp), "log": _unary(np.log), "sqrt": _unary(np.sqrt), "sin": _unary(np.sin)},
        **{"cos": _unary(np.cos), "abs": _unary(np.abs), "floor": _unary(np.floor), "ceil": _unary(np.ceil)},
        **{"rsqrt": _unary(lambda array: 1 / np.sqrt(array)), "reciprocal": _unary(lambda array: 1 / array)},
        **{"sign": _unary(np.sign), "sigmoid": _unary(lambda array: 1 / (1 + np.exp(-array)))},
        "masked_fill": lambda given, outputs: np.where(given["mask"], given["value"], _first(given)),
        "where": lambda given, outputs: np.where(given["condition"], given["self"], given["other"]),
        "outer": lambda given, outputs: np.outer(_first(given), given["vec2"]),
        "cumsum": lambda given, outputs: np.cumsum(_first(given), given["dim"]),
        "clamp": lambda given, outputs: np.clip(_first(given), given.get("min"), given.get("max")),
    }
)
"""How operators compute on numpy arrays, by their names as in the importer's table."""

_JOINS = frozenset({"cat", "stack"})

CREATES = frozenset(
    {
        "zeros_like",
        "new_zeros",
        "empty_like",
        "new_empty",
        "ones_like",
        "new_ones",
        "full_like",
        "new_full",
        "zero",
        "fill",
    }
)
"""Operators that read nothing of a tensor but its shape, as long as the value that they fill it with is known."""
