"""Functions of an ONNX file: the nodes that they stand for, put in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from leti.core.errors import ArtifactError, TooLarge
from leti.core.extras import needs
from leti.core.graph import Graph

with needs("import-onnx"):
    import onnx
    from onnx import inliner

_Key = tuple[str, str]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without calls of its own functions.

    Raises :class:`ArtifactError` for functions that call themselves, and :class:`TooLarge`, before anything is
    written out, where they stand for more nodes than a graph may have operators.
    """
    if not model.functions:
        return model
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[_Key, int] = {}
    for key in functions:
        _measure(key, functions, sizes)
    size = sum(sizes.get((node.domain, node.op_type), 1) for node in all_nodes(model.graph.node))
    if size > Graph.MAX_OPS:
        raise TooLarge(f"has {size} nodes", field="model", remedy=f"at most {Graph.MAX_OPS}")
    return inliner.inline_local_functions(model)


def _measure(start: _Key, functions: Mapping[_Key, onnx.FunctionProto], sizes: dict[_Key, int]) -> None:
    """Note how many nodes a function stands for, and those that it calls."""
    stack, open_keys = [start], set[_Key]()
    while stack:
        key = stack[-1]
        calls = [(node.domain, node.op_type) for node in all_nodes(functions[key].node)]
        missing = [call for call in calls if call in functions and call not in sizes]
        if key in sizes or not missing:
            sizes[key] = sum(sizes.get(call, 1) for call in calls)
            open_keys.discard(key)
            stack.pop()
        elif key in open_keys:
            raise ArtifactError("calls itself", field=f"function {key[1][:200]}")
        else:
            open_keys.add(key)
            stack.extend(set(missing))


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """Yield nodes and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_nodes(graph.node)
