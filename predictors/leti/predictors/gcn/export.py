"""Export: a trained network as ONNX, in float64 and for graphs of any size, so that serving it needs no torch.

The file is written operator by operator from the weights, the same bytes whenever the weights are the same. That is
also how a foreign file is told: what is not byte for byte the export of the weights beside it is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from leti.core.extras import needs
from leti.predictors.gcn.architecture import MAX_CORRECTION, Architecture

with needs("gcn"):
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from onnx import TensorProto, helper

OPSET = 18
_IR_VERSION = 8
_ROWS = ("numbers", "base", "counts", "readout")

Weights = Mapping[str, NDArray[np.float32]]


def to_onnx(architecture: Architecture, weights: Weights) -> bytes:
    """Return the network as an ONNX file: inputs as a collation names them, outputs ``said`` and ``prices``.

    ``said`` is ``(graphs, members)``; ``prices`` ``(nodes, members)`` in ms, of the priced head alone.
    """
    a, g = architecture, _Writer()
    for name in sorted(weights):
        g.constant(name, weights[name].astype(np.float64))
    rows = [g.node("Gather", name, f"{name}_number") for name in ("kind", "family")]
    hidden = g.node("Add", *rows)
    if a.numbers:
        hidden = g.node("Add", hidden, g.node("MatMul", "numbers", "number"))
    hidden = g.node("Relu", g.node("Add", hidden, "first"))
    flat, split = g.shape(-1, a.members * a.units), g.shape(-1, a.members, a.units)
    for layer in range(a.layers):
        read = [_gathered(g, hidden, way, flat) for way in range(a.ways)]
        parts = [g.node("Reshape", part, split) for part in ((hidden, *read) if a.own else read)]
        joined = parts[0] if len(parts) == 1 else g.node("Concat", *parts, axis=-1)
        update = g.node("Relu", g.node("Add", _by_member(g, joined, f"layer{layer}"), f"bias{layer}"))
        update = g.node("Reshape", update, flat)
        hidden = g.node("Add", hidden, update) if a.own else update
    (_priced if a.head == "priced" else _summed)(g, a, hidden)
    return g.finished(a)


def _gathered(g: _Writer, hidden: str, way: int, flat: str) -> str:
    messages = g.node("Mul", g.node("Gather", hidden, f"sources{way}"), f"weights{way}")
    nothing = g.node("Mul", hidden, g.number(0.0))
    return g.node("ScatterND", nothing, f"targets{way}", messages, reduction="add")


def _by_member(g: _Writer, rows: str, weights: str) -> str:
    """Multiply rows ``(n, members, in)`` by each member's weights ``(members, in, out)``."""
    turned = g.node("MatMul", g.node("Transpose", rows, perm=[1, 0, 2]), weights)
    return g.node("Transpose", turned, perm=[1, 0, 2])


def _pooled(g: _Writer, rows: str, columns: int) -> str:
    """Add the rows of each graph up, ``(graphs, columns)``."""
    size = g.node("Concat", "graphs", g.shape(columns), axis=0)
    nothing = g.node("Expand", g.number(0.0), size)
    return g.node("ScatterND", nothing, "graph_of", rows, reduction="add")


def _line(g: _Writer, rows: str, weights: str) -> str:
    """Return the sum over units of rows ``(n, members, units)`` times weights ``(members, units)``."""
    return g.node("ReduceSum", g.node("Mul", rows, weights), g.shape(-1), keepdims=0)


def _summed(g: _Writer, a: Architecture, hidden: str) -> None:
    pooled = _pooled(g, g.node("Mul", hidden, "readout"), a.members * a.units)
    said = _line(g, g.node("Reshape", pooled, g.shape(-1, a.members, a.units)), "out")
    g.node("Add", said, "level", output="said")


def _priced(g: _Writer, a: Architecture, hidden: str) -> None:
    split = g.shape(-1, a.members, a.units)
    correction = _line(g, g.node("Reshape", hidden, split), "out")
    correction = g.node("Add", correction, g.node("MatMul", "numbers", "number_price"))
    for table in ("kind", "family"):
        correction = g.node("Add", correction, g.node("Gather", f"{table}_price", f"{table}_number"))
    correction = g.node("Clip", correction, g.number(-MAX_CORRECTION), g.number(MAX_CORRECTION))
    price = g.node("Mul", g.node("Exp", correction), "base", output="prices")
    prices = g.node("Mul", price, "counts")
    total = g.node("Add", _pooled(g, prices, a.members), g.node("Exp", "overhead"))
    mean = g.node("Div", _pooled(g, g.node("Mul", hidden, "counts"), a.members * a.units), _pooled(g, "counts", 1))
    repeated = g.node("Expand", g.node("Unsqueeze", "whole", g.shape(1)), g.shape(1, a.members, 1))
    seen = g.node("Concat", g.node("Reshape", mean, split), repeated, axis=-1)
    around = g.node("Relu", g.node("Add", _by_member(g, seen, "surroundings"), "surroundings_bias"))
    g.node("Add", g.node("Log", total), _line(g, around, "surroundings_out"), output="said")


@final
class _Writer:
    """An ONNX graph in the making; a value is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Place an operator, and return the name of its output."""
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: NDArray[np.float64] | NDArray[np.int64]) -> str:
        """Add values by name, once."""
        if name not in self._constants:
            self._constants[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a number."""
        return self.constant(f"number {value}", np.array(value))

    def shape(self, *sizes: int) -> str:
        """Return the name of a list of whole numbers."""
        return self.constant(f"shape {sizes}", np.array(sizes, dtype=np.int64))

    def finished(self, a: Architecture) -> bytes:
        """Return the file, with the inputs and constants that its operators read."""
        real, whole = TensorProto.DOUBLE, TensorProto.INT64
        described = {
            "kind_number": (whole, ["n"]),
            "family_number": (whole, ["n"]),
            "numbers": (real, ["n", a.numbers]),
            "base": (real, ["n", 1]),
            "counts": (real, ["n", 1]),
            "readout": (real, ["n", 1]),
            "whole": (real, ["g", a.whole]),
            "graphs": (whole, [1]),
            "graph_of": (whole, ["n", 1]),
        }
        for way in range(a.ways):
            described[f"sources{way}"] = (whole, [f"e{way}"])
            described[f"targets{way}"] = (whole, [f"e{way}", 1])
            described[f"weights{way}"] = (real, [f"e{way}", 1])
        read = {name for node in self._nodes for name in node.input}
        outputs = {"said": ["g", a.members], "prices": ["n", a.members]}
        made = {name for node in self._nodes for name in node.output}
        graph = helper.make_graph(
            self._nodes,
            "leti_gcn",
            [helper.make_tensor_value_info(name, *found) for name, found in described.items() if name in read],
            [helper.make_tensor_value_info(name, real, sizes) for name, sizes in outputs.items() if name in made],
            [constant for name, constant in self._constants.items() if name in read],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="leti")
        model.ir_version = _IR_VERSION
        content: bytes = model.SerializeToString(deterministic=True)
        return content
