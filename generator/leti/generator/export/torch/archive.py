"""A program as the bytes of a .pt2 archive: its graph as JSON, its tensors as plain bytes, nothing pickled.

The form is that of ``torch/_export/serde/schema.py``, version 8.20, as PyTorch 2.13 writes it.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from leti.core.graph import TensorType
from leti.generator.cost import Shape
from leti.generator.export.torch.program import Argument, Dtype, Node, Program, Stored, Tensor, element_of

_ROOT: Final = "archive"
_SCHEMA: Final = {"major": 8, "minor": 20}
_TORCH_VERSION: Final = "2.13.0"
_OPSET: Final = {"aten": 10}
_STRIDED: Final = 7
_POSITIONAL, _BY_NAME = 1, 2  # kinds of arguments
_KEYWORDS: Final = frozenset({"approximate"})  # arguments that operators take by their names alone
_SPELLED: Final = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
_WRITTEN: Final = (1980, 1, 1, 0, 0, 0)  # what a zip says of no date: a program is the same file each time

Json = dict[str, Any]


def archived(program: Program, returned: Sequence[Tensor]) -> bytes:
    """Return the archive of a program that returns these tensors."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _members(program, returned).items():
            archive.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}", _WRITTEN), data)
    return buffer.getvalue()


def _members(program: Program, returned: Sequence[Tensor]) -> dict[str, bytes]:
    weights = {f"data/weights/weight_{i}": stored.array.tobytes() for i, stored in enumerate(program.stored)}
    config = {stored.name: _payload(stored, f"weight_{i}") for i, stored in enumerate(program.stored)}
    return {
        **weights,
        "data/weights/model_weights_config.json": _json({"config": config}),
        "data/constants/model_constants_config.json": _json({"config": {}}),
        "models/model.json": _json(_model(program, returned)),
        "data/sample_inputs/model.pt": b"",  # a pickle, where there is one
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6\n",
        "byteorder": b"little",
    }


def _json(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _payload(stored: Stored, path: str) -> Json:
    meta = _meta(stored.tensor.type, is_trained=stored.is_parameter)
    return {"path_name": path, "is_param": stored.is_parameter, "use_pickle": False, "tensor_meta": meta}


def _model(program: Program, returned: Sequence[Tensor]) -> Json:
    kept = sorted(program.stored, key=lambda stored: not stored.is_parameter)
    specs = [_input_spec(stored) for stored in kept]
    specs += [{"user_input": {"arg": _tensor(tensor)}} for tensor in program.inputs]
    made = [tensor for node in program.nodes for tensor in node.outputs]
    graph = {
        "inputs": [_tensor(tensor) for tensor in (*(stored.tensor for stored in kept), *program.inputs)],
        "outputs": [_tensor(tensor) for tensor in returned],
        "nodes": [_node(node) for node in program.nodes],
        "tensor_values": {
            **{stored.tensor.name: _meta(stored.tensor.type, is_trained=stored.is_parameter) for stored in kept},
            **{tensor.name: _meta(tensor.type) for tensor in (*program.inputs, *made)},
        },
        "sym_int_values": {},
        "sym_bool_values": {},
        "is_single_tensor_return": False,
        "custom_obj_values": {},
        "sym_float_values": {},
    }
    outputs = [{"user_output": {"arg": _tensor(tensor)}} for tensor in returned]
    module = {
        "graph": graph,
        "signature": {"input_specs": specs, "output_specs": outputs},
        "module_call_graph": [{"fqn": "", "signature": _call_signature(program, len(returned))}],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    }
    return {
        "graph_module": module,
        "opset_version": _OPSET,
        "range_constraints": {},
        "schema_version": _SCHEMA,
        "verifiers": ["TRAINING"],
        "torch_version": _TORCH_VERSION,
        "guards_code": [],
    }


def _input_spec(stored: Stored) -> Json:
    argument = {"name": stored.tensor.name}
    if stored.is_parameter:
        return {"parameter": {"arg": argument, "parameter_name": stored.name}}
    return {"buffer": {"arg": argument, "buffer_name": stored.name, "persistent": True}}


def _call_signature(program: Program, outputs: int) -> Json:
    """Return how the network is called: with its inputs in order; it returns its only output, or a tuple of them."""
    leaf: Json = {"type": None, "context": None, "children_spec": []}
    given = _tree("builtins.tuple", "null", [leaf] * len(program.inputs))
    called = _tree("builtins.tuple", "null", [given, _tree("builtins.dict", "[]", [])])
    made = leaf if outputs == 1 else _tree("builtins.tuple", "null", [leaf] * outputs)
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": json.dumps([1, called]),
        "out_spec": json.dumps([1, made]),
        "forward_arg_names": [tensor.name for tensor in program.inputs],
    }


def _tree(kind: str, context: str, children: Sequence[Json]) -> Json:
    return {"type": kind, "context": context, "children_spec": list(children)}


def _node(node: Node) -> Json:
    made: list[Json] = [_tensor(tensor) for tensor in node.outputs]
    if node.is_list:
        made = [{"as_tensors": [{"name": tensor.name} for tensor in node.outputs]}]
    return {
        "target": node.target,
        "inputs": [
            {"name": name, "arg": _argument(value), "kind": _BY_NAME if name in _KEYWORDS else _POSITIONAL}
            for name, value in node.arguments.items()
        ],
        "outputs": made,
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": node.name,
    }


def _meta(tensor_type: TensorType, *, is_trained: bool = False) -> Json:
    return {
        "dtype": element_of(tensor_type.dtype),
        "sizes": [{"as_int": size} for size in tensor_type.shape],
        "requires_grad": is_trained,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": stride} for stride in _strides(tensor_type.shape)],
        "storage_offset": {"as_int": 0},
        "layout": _STRIDED,
    }


def _strides(shape: Shape) -> Shape:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


# --- arguments -------------------------------------------------------------------------------------------------------


def _tensor(tensor: Tensor) -> Json:
    return {"as_tensor": {"name": tensor.name}}


def _float(value: float) -> Json:
    return {"as_float": value if math.isfinite(value) else _SPELLED[str(value)]}


_SAID: Final[Mapping[type, Callable[[Any], Json]]] = {
    type(None): lambda value: {"as_none": True},
    bool: lambda value: {"as_bool": value},
    int: lambda value: {"as_int": value},
    float: _float,
    str: lambda value: {"as_string": value},
    Dtype: lambda value: {"as_scalar_type": element_of(value.name)},
    Tensor: _tensor,
}


def _argument(value: Argument) -> Json:
    if type(value) in _SAID:
        return _SAID[type(value)](value)
    items: Sequence[Any] = value  # type: ignore[assignment]
    if all(isinstance(item, int) for item in items):
        return {"as_ints": list(items)}
    if all(isinstance(item, Tensor) for item in items):
        return {"as_tensors": [{"name": item.name} for item in items]}
    return {"as_optional_tensors": [{"as_none": True} if item is None else _tensor(item) for item in items]}
