"""Operators that need not run: identities, equal ones, and what reaches no output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from leti.core.graph import COMMUTATIVE
from leti.generator.importers.draft import UNKNOWN, Constant, Draft, Node
from leti.generator.importers.passes.rewrite import Rewrite, scalar


def remove_dead(draft: Draft) -> Draft:
    """Return the draft without nodes that reach no output; every converter and runtime leaves them out.

    What has no outputs at all runs for its effect, and is kept.
    """
    wanted = set(draft.outputs)
    alive = []
    for node in reversed(draft.nodes):
        if not node.outputs or not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            alive.append(node)
    rewrite = Rewrite(draft)
    for node in reversed(alive):
        rewrite.keep(node)
    return rewrite.finish()


def merge_equal(draft: Draft) -> Draft:
    """Return the draft with equal nodes without weights of their own on equal inputs computed once.

    TensorFlow's grappler, the TFLite converter (CSE) and ONNX Runtime (``CommonSubexpressionElimination``) do so, and
    so does :class:`~leti.generator.builder.GraphBuilder`. Nodes with weights are equal where they share the constants.
    """
    rewrite = Rewrite(draft)
    known: dict[object, tuple[int, ...]] = {}
    for node in draft.nodes:
        inputs = [rewrite.values[value] for value in node.inputs]
        if node.kind.startswith(UNKNOWN):  # it may be random, or have a state
            rewrite.keep(node)
            continue
        if node.kind in COMMUTATIVE:
            inputs.sort()
        types = tuple(draft.types[value] for value in node.outputs)
        pairs = tuple(sorted((name, repr(value)) for name, value in node.attributes.items()))
        key = (node.kind, tuple(inputs), types, pairs, tuple(map(_identity, node.weights)))
        if key in known:
            rewrite.values.update(zip(node.outputs, known[key], strict=True))
        else:
            rewrite.keep(node)
            known[key] = tuple(rewrite.values[value] for value in node.outputs)
    return rewrite.finish()


def _identity(constant: Constant) -> object:
    value = scalar(constant)
    return id(constant) if value is None else (constant.shape, constant.dtype, value)


def drop_identities(draft: Draft) -> Draft:
    """Return the draft without operators that return what they read, and with chains of reshapes as one.

    ONNX Runtime drops them (``EliminateIdentity``, ``NoopElimination``, ``EliminateSlice`` …), so do the canonical
    forms of the TFLite converter. Pairs of quantize and dequantize stay: they round, and they run.
    """
    rewrite = Rewrite(draft)
    for node in draft.nodes:
        if len(node.inputs) == 1 and _is_identity(draft, node):
            rewrite.values[node.outputs[0]] = rewrite.values[node.inputs[0]]
        elif node.kind == "reshape":
            _reshape(rewrite, node)
        else:
            rewrite.keep(node)
    return rewrite.finish()


def _reshape(rewrite: Rewrite, node: Node) -> None:
    """Place a reshape on what the reshapes before it read; of a mean that kept its dimensions, drop them there."""
    source = node.inputs[0]
    while (before := rewrite.maker(source, "reshape")) is not None:
        source = before.inputs[0]
    if rewrite.old.types[source] == rewrite.old.types[node.outputs[0]]:
        rewrite.values[node.outputs[0]] = rewrite.values[source]
    else:
        rewrite.keep(node, (rewrite.values[source],))


def _is_identity(draft: Draft, node: Node) -> bool:
    if len(node.outputs) > 1 or draft.types[node.inputs[0]] != draft.types[node.outputs[0]]:
        return False
    rule = _IDENTITIES.get(node.kind)
    return rule is not None and rule(node)


def _always(_node: Node) -> bool:
    return True


def _neutral(neutral: float) -> Callable[[Node], bool]:
    return lambda node: scalar(node.weights[0]) == neutral


def _has_unit_window(node: Node) -> bool:
    return math.prod(node.integers("kernel")) == math.prod(node.integers("strides")) == 1


_IDENTITIES: Mapping[str, Callable[[Node], bool]] = {
    **dict.fromkeys(("reshape", "cast", "resize", "broadcast_to", "tile"), _always),
    **dict.fromkeys(("concat", "split", "add", "mul", "maximum", "minimum"), _always),  # of one operand
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _has_unit_window),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _has_unit_window),
    "pad": lambda node: not any(node.integers("paddings")),
    "slice": lambda node: all(stride == 1 for stride in node.integers("strides")),
    "transpose": lambda node: node.integers("perm") == tuple(range(len(node.integers("perm")))),
    "depth_to_space": lambda node: node.attribute("block") == 1,
    "space_to_depth": lambda node: node.attribute("block") == 1,
    "scale": _neutral(1.0),
    "shift": _neutral(0.0),
}
"""Kinds that can return what they read, and what must hold beside equal types."""
