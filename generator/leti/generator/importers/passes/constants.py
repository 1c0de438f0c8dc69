"""What is computed of constants alone, and arithmetic with constants under the names that it has here.

Every converter and runtime computes constants before a network runs (grappler's and the TFLite converter's constant
folding, ONNX Runtime's ``ConstantFolding``). Readers do most of it themselves; this is for what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from leti.core.extras import needs
from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.importers.draft import Constant, Draft, Node
from leti.generator.importers.passes.rewrite import SMALL_ELEMENTS, Rewrite
from leti.generator.weights import Array

with needs("export"):
    import numpy as np

_BINARY = frozenset({"add", "mul", "sub", "div"})


def fold_small_constants(draft: Draft) -> Draft:
    """Return the draft with operators on constants of at most :data:`SMALL_ELEMENTS` elements computed."""
    return _fold_constants(draft, SMALL_ELEMENTS)


def fold_constants(draft: Draft) -> Draft:
    """Return the draft with operators on constants computed, once somebody asks for the values.

    Whatever their size, as long as the result is no larger than what it is made of.
    """
    return _fold_constants(draft, None)


def name_arithmetic(draft: Draft) -> Draft:
    """Return the draft with multiplications and additions of a constant as ``scale`` and ``shift``."""
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        if node.kind in _BINARY and _rename(rewrite, node):
            continue
        rewrite.keep(node)
    return rewrite.finish()


def _rename(rewrite: Rewrite, node: Node) -> bool:
    if len(node.inputs) != 2:
        return False
    left, right = node.inputs
    if node.kind in ("add", "mul") and rewrite.maker(left, "constant") is not None:
        left, right = right, left
    constant = rewrite.maker(right, "constant")
    output = rewrite.old.types[node.outputs[0]]
    if constant is None or rewrite.maker(left, "constant") is not None or rewrite.old.types[left] != output:
        return False
    if "float" not in output.dtype:
        return False
    rewrite.values[node.outputs[0]] = rewrite.new.binary(
        node.kind, rewrite.values[left], constant.weights[0], output, name=node.name
    )
    return True


def _fold_constants(draft: Draft, most: int | None) -> Draft:
    rewrite = Rewrite(draft)
    known: dict[int, Constant] = {}
    for node in draft.nodes:
        if node.kind == "constant":
            known[node.outputs[0]] = node.weights[0]
        rule = _RULES.get(node.kind)
        constants = [*(known[value] for value in node.inputs if value in known), *node.weights]
        operands = len(node.inputs) + len(node.weights)
        if rule is None or not node.inputs or len(constants) < operands or len(node.outputs) > 1 or _is_batched(node):
            rewrite.keep(node)
            continue
        output = draft.types[node.outputs[0]]
        sizes = [math.prod(constant.shape) for constant in constants]
        if output.elements > max(SMALL_ELEMENTS, *sizes) or (most is not None and max(sizes) > most):
            rewrite.keep(node)
            continue
        made = _compute(rule(node, output.shape), constants, output)
        known[node.outputs[0]] = made
        rewrite.values[node.outputs[0]] = rewrite.new.constant(made, node.name)
    return rewrite.finish()


def _is_batched(node: Node) -> bool:
    return node.kind == "gather" and node.attribute("batch_dims") != 0


def _compute(change: Callable[..., Array], constants: list[Constant], output: TensorType) -> Constant:
    kind = "f" if "float" in output.dtype else "i"

    def load() -> Array:
        made = np.asarray(change(*(constant.array() for constant in constants)))
        if kind == "i" and made.dtype.kind == "f":
            made = np.trunc(made)
        return made.reshape(output.shape).astype(np.float32 if kind == "f" else np.int64, order="C")

    return Constant(output.shape, output.dtype, load)


_Rule = Callable[[Node, Shape], Callable[..., Array]]


def _plain(change: Callable[..., Array]) -> _Rule:
    return lambda _node, _shape: change


def _divide(_node: Node, _shape: Shape) -> Callable[..., Array]:
    return lambda a, b: a / b if a.dtype.kind == "f" else np.trunc(a / b)


def _affine(change: Callable[..., Array]) -> _Rule:
    """Return the rule of ``scale`` or ``shift``, whose constant may be written without its leading ones."""

    def rule(node: Node, _shape: Shape) -> Callable[..., Array]:
        kept = node.integers("constant")
        return lambda array, weight: change(array, weight.reshape(kept) if kept else weight)

    return rule


def _slice(node: Node, shape: Shape) -> Callable[..., Array]:
    begin = node.integers("begin") or (0,) * len(shape)
    strides = node.integers("strides") or (1,) * len(shape)
    places = [b + s * np.arange(n) for b, s, n in zip(begin, strides, shape, strict=True)]
    return lambda array: array[np.ix_(*places)] if places else array


def _concat(node: Node, _shape: Shape) -> Callable[..., Array]:
    axis = node.integer("axis")
    return lambda *arrays: np.concatenate(arrays, axis)


def _stack(node: Node, _shape: Shape) -> Callable[..., Array]:
    axis = node.integer("axis")
    return lambda *arrays: np.stack(arrays, axis)


def _gather(node: Node, _shape: Shape) -> Callable[..., Array]:
    axis = node.integer("axis")
    return lambda data, indices: np.take(data, indices, axis)


def _transpose(node: Node, _shape: Shape) -> Callable[..., Array]:
    perm = node.integers("perm")
    return lambda array: array.transpose(perm)


_RULES: Mapping[str, _Rule] = {
    "cast": _plain(lambda array: array),
    "reshape": lambda _node, shape: lambda array: array.reshape(shape),
    "broadcast_to": lambda _node, shape: lambda array: np.broadcast_to(array, shape),
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "stack": _stack,
    "gather": _gather,
    "scale": _affine(np.multiply),
    "shift": _affine(np.add),
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "div": _divide,
    "maximum": _plain(np.maximum),
    "minimum": _plain(np.minimum),
    "power": _plain(np.power),
    "neg": _plain(np.negative),
    "abs": _plain(np.abs),
    "square": _plain(np.square),
    "sqrt": _plain(np.sqrt),
    "rsqrt": _plain(lambda array: 1 / np.sqrt(array)),
    "reciprocal": _plain(lambda array: 1 / array),
    "exp": _plain(np.exp),
}
"""Kinds that are computed, and how."""
