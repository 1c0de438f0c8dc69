"""Which operators a runtime executes as one kernel: a table of rules for each runtime.

A rule is a chain of kinds; it applies where each operator of the chain alone reads what the one before it makes. The
first rule that fits decides, in the order of operators. The rules were found by looking at what runtimes do with
networks that hold every operator, and ``benchmarks/kernels.py`` holds them against it: LiteRT's profile, and ONNX
Runtime's optimised graph.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, get_args

from leti.core.errors import InvalidInput
from leti.core.graph import Graph, Op
from leti.generator.blocked_layout import blocked_operators
from leti.generator.cost import peak_memory_bytes

Runtime = Literal["litert", "onnxruntime"]

CLAMPS: Final = frozenset({"relu", "relu6", "relu_n1", "clip"})
"""Activations that cut at constants: the only ones that XNNPACK's kernels end in."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Kinds of operator that run as one kernel, one after the other.

    ``layout`` says in which layout: what a blocked one is, :mod:`leti.generator.blocked_layout` says. A chain that is
    ``"blocked"`` is so from end to end, one that is ``"plain"`` begins in the plain layout.
    """

    chain: tuple[frozenset[str], ...]
    layout: Literal["any", "blocked", "plain"] = "any"


_CONVOLUTIONS = frozenset({"conv2d", "depthwise_conv2d"})
_BLOCKED_CONVOLUTIONS = _CONVOLUTIONS | {"scale"}
_ADD = frozenset({"add"})
_ORT_ACTIVATIONS = CLAMPS | {"sigmoid", "tanh", "leaky_relu", "hard_sigmoid"}
_ORT_BLOCKED_ACTIVATIONS = frozenset({"relu", "sigmoid", "tanh", "hard_swish", "hard_sigmoid"})

RULES: Final[Mapping[Runtime, tuple[Rule, ...]]] = {
    # XNNPACK's own pass merges a clamp upstream; an addition or multiplication keeps a clamp after it as a kernel of
    # its own, although the file has it in one operator. It has a kernel for the mean of squares.
    "litert": (
        Rule((_CONVOLUTIONS | {"transpose_conv2d", "fully_connected", "avg_pool2d", "max_pool2d"}, CLAMPS)),
        Rule((frozenset({"square"}), frozenset({"mean"}))),
    ),
    # ONNX Runtime's NchwcTransformer, which gives convolutions a sum to add to, and an activation after it;
    # ConvAddActivationFusion, which does it where the former did not; ConvActivationFusion and GemmActivationFusion.
    "onnxruntime": (
        Rule((_BLOCKED_CONVOLUTIONS, _ADD, _ORT_BLOCKED_ACTIVATIONS), "blocked"),
        Rule((_BLOCKED_CONVOLUTIONS, _ADD), "blocked"),
        Rule((_BLOCKED_CONVOLUTIONS, _ORT_BLOCKED_ACTIVATIONS), "blocked"),
        Rule((_CONVOLUTIONS, _ADD, _ORT_ACTIVATIONS), "plain"),
        Rule((_CONVOLUTIONS, _ADD), "plain"),
        Rule((_CONVOLUTIONS, _ORT_ACTIVATIONS)),
        Rule((frozenset({"fully_connected"}), _ORT_ACTIVATIONS)),
    ),
}
"""Chains of operators that run as one kernel, by runtime, the longest first."""


class _Index(NamedTuple):
    """Rules by the kind that they begin with, and the kinds that stand second in one."""

    beginning: Mapping[str, tuple[Rule, ...]]
    following: frozenset[str]


@functools.cache
def _indexed(runtime: Runtime) -> _Index:
    rules = RULES[runtime]
    beginning = {
        kind: tuple([rule for rule in rules if kind in rule.chain[0]]) for rule in rules for kind in rule.chain[0]
    }
    return _Index(beginning, frozenset[str]().union(*[rule.chain[1] for rule in rules]))


def fuse(graph: Graph, runtime: Runtime = "litert") -> Graph:
    """Return the graph with the kernels that a runtime executes, and the peak memory that follows from them.

    Raises :class:`InvalidInput` for a runtime without rules.
    """
    kernels = find_kernels(graph.ops, graph.wiring, graph.outputs, len(graph.inputs), runtime)
    peak = peak_memory_bytes(graph.inputs, graph.ops, graph.wiring, graph.outputs, kernels)
    return replace(graph, kernels=kernels, peak_memory_bytes=peak)


def may_fuse(first: str, second: str, runtime: Runtime = "litert") -> bool:
    """Return whether a rule begins with operators of these two kinds."""
    return any(second in rule.chain[1] for rule in _indexed(runtime).beginning.get(first, ()))


def find_kernels(
    ops: Sequence[Op],
    wiring: Sequence[tuple[int, ...]],
    outputs: Sequence[int],
    inputs: int = 1,
    runtime: Runtime = "litert",
) -> tuple[tuple[int, ...], ...]:
    """Return the kernels that a runtime executes, each a tuple of operator numbers; every operator is in exactly one.

    ``wiring`` and ``outputs`` hold value numbers as in :class:`~leti.core.graph.Graph`, ``inputs`` is the number of
    graph inputs. A constant belongs to the kernel of its first reader. Kernels stand in the order of their last
    operators, which is topological.
    """
    if runtime not in RULES:
        raise InvalidInput(
            f"no fusion rules are known of {runtime!r}", field="runtime", remedy=", ".join(get_args(Runtime))
        )
    index = _indexed(runtime)
    if not _any_may_fuse(ops, wiring, inputs, index):
        return tuple([(i,) for i in range(len(ops))])
    next_op = _only_readers(ops, wiring, outputs, inputs)
    blocked = blocked_operators(ops, wiring, inputs) if _knows_layouts(runtime) else frozenset()
    beginning = index.beginning
    taken: set[int] = set()
    kernels: list[list[int]] = []
    for i, op in enumerate(ops):
        if i in taken or op.kind == "constant":
            continue
        kernel = [i]
        if i in next_op and op.kind in beginning:  # most begin no rule
            chains = (_match(rule, i, ops, next_op, taken, blocked) for rule in beginning[op.kind])
            kernel = next(filter(None, chains), kernel)
            taken.update(kernel)
        kernels.append(kernel)
    _give_constants(kernels, ops, wiring, inputs)
    return tuple(sorted((tuple(sorted(kernel)) for kernel in kernels), key=lambda kernel: kernel[-1]))


def _any_may_fuse(ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], inputs: int, index: _Index) -> bool:
    """Return whether there is a constant, or an operator that may stand second in a chain and reads a first one."""
    beginning, following = index
    makers = _makers(ops, inputs)
    for op, sources in zip(ops, wiring, strict=True):
        if op.kind == "constant":
            return True
        if op.kind in following:
            for value in sources:
                if makers[value] >= 0 and ops[makers[value]].kind in beginning:
                    return True
    return False


def _only_readers(
    ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], outputs: Sequence[int], inputs: int
) -> dict[int, int]:
    """Return the operator that alone reads the only output of an operator, for each operator that has one."""
    makers = _makers(ops, inputs)
    reader: list[int] = [-1] * len(makers)  # -2 for several, or for what the graph returns
    for i, sources in enumerate(wiring):
        for value in sources:
            reader[value] = i if reader[value] == -1 else -2
    for value in outputs:
        reader[value] = -2
    return {
        maker: i
        for maker, i in zip(makers, reader, strict=True)
        if i >= 0 and maker >= 0 and len(ops[maker].outputs) == 1
    }


def _makers(ops: Sequence[Op], inputs: int) -> list[int]:
    """Return the operator that makes each value, -1 for graph inputs."""
    return [-1] * inputs + [i for i, op in enumerate(ops) for _ in op.outputs]


def _match(
    rule: Rule, start: int, ops: Sequence[Op], next_op: Mapping[int, int], taken: Set[int], blocked: Set[int]
) -> list[int]:
    """Return the operators of the chain that begins at ``start``, or nothing where it does not fit."""
    found: list[int] = []
    current: int | None = start
    for kinds in rule.chain:
        if current is None or current in taken or ops[current].kind not in kinds:
            return []
        if not _fits(rule, ops[current], current == start, current in blocked):
            return []
        found.append(current)
        current = next_op.get(current)
    return found


def _fits(rule: Rule, op: Op, is_first: bool, is_blocked: bool) -> bool:
    if rule.layout == "any":
        return True
    broadcasts = op.kind == "add" and len(set(op.inputs)) > 1
    return not broadcasts and (is_blocked if rule.layout == "blocked" else not (is_first and is_blocked))


def _knows_layouts(runtime: Runtime) -> bool:
    return any(rule.layout != "any" for rule in RULES[runtime])


def _give_constants(
    kernels: list[list[int]], ops: Sequence[Op], wiring: Sequence[tuple[int, ...]], inputs: int
) -> None:
    """Put each constant into the kernel of the first operator that reads it; one that nothing reads stands alone."""
    constants = {i for i, op in enumerate(ops) if op.kind == "constant"}
    if not constants:
        return
    makers = _makers(ops, inputs)
    first_reader: dict[int, int] = {}
    for i, sources in enumerate(wiring):
        for value in sources:
            first_reader.setdefault(makers[value], i)
    kernel_of = {i: kernel for kernel in kernels for i in kernel}
    for i in sorted(constants):
        if i in first_reader:
            kernel_of[first_reader[i]].append(i)
        else:
            kernels.append([i])
