"""Exported PyTorch programs (.pt2) read without running anything that they hold.

``torch.export.load`` unpickles what an archive asks it to (sample inputs, custom objects, tensors of subclasses) and
evaluates the expressions of open sizes and guards as Python, and model files come from elsewhere. So the archive is
read here: its graph is JSON and its tensors are plain bytes. Calls are rebuilt one by one, of operators that are listed
below, on numbers, names of data types and tensors; archives with a pickle in them are refused. What is made is a
``torch.fx.GraphModule``, as ``torch.export.load(…).module()`` is, without checks of its inputs at each run.

The form is that of ``torch/_export/serde/schema.py``, major version 8, as PyTorch 2.9 and later write it.
"""

from __future__ import annotations

import io
import json
import math
import operator
import re
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from leti.core.errors import MeasurementFailed
from leti.core.extras import needs
from leti.device_agents.desktop.inputs import TensorType
from leti.device_agents.desktop.sessions import first_line

with needs("pytorch"):
    import torch
    from torch import fx

SCHEMA_MAJOR: Final = 8

OPERATORS: Final = frozenset(
    {
        *("conv1d.default", "conv2d.default", "conv3d.default", "conv_transpose2d.input", "linear.default"),
        *("matmul.default", "transpose.int", "embedding.default"),
        *(f"{kind}_pool{rank}d.default" for kind in ("avg", "max") for rank in (1, 2, 3)),
        *("batch_norm.default", "instance_norm.default", "group_norm.default", "layer_norm.default"),
        *("rms_norm.default", "linalg_vector_norm.default", "prelu.default"),
        *(f"{name}.default" for name in ("relu", "selu", "sigmoid", "tanh", "silu", "mish", "softplus", "gelu", "elu")),
        *(f"{name}.default" for name in ("hardtanh", "hardswish", "hardsigmoid", "leaky_relu", "clamp")),
        *(f"{name}.default" for name in ("exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "abs", "neg", "sign")),
        *(f"{name}.default" for name in ("floor", "ceil", "round", "sin", "cos", "erf")),
        *(f"{name}.Tensor" for name in ("add", "sub", "mul", "div", "remainder", "eq", "ne", "lt", "le", "gt", "ge")),
        *("maximum.default", "minimum.default", "floor_divide.default", "pow.Tensor_Tensor", "pow.Tensor_Scalar"),
        *("logical_not.default", "logical_and.default", "logical_or.default", "gt.Scalar", "where.self", "to.dtype"),
        *("mean.dim", "sum.dim_IntList", "prod.dim_int", "amax.default", "amin.default", "argmax.default"),
        *("argmin.default", "softmax.int", "log_softmax.int", "cumsum.default", "topk.default"),
        *("cat.default", "stack.default", "split_with_sizes.default", "unbind.int", "slice.Tensor", "index.Tensor"),
        *("reshape.default", "permute.default", "unsqueeze.default", "squeeze.dim", "expand.default", "repeat.default"),
        *("flip.default", "roll.default", "pad.default", "pixel_shuffle.default", "pixel_unshuffle.default"),
        *("upsample_nearest2d.vec", "_upsample_nearest_exact2d.vec", "upsample_bilinear2d.vec"),
        "upsample_bicubic2d.vec",
    }
)
"""What programs may call of ATen: operators that compute of their arguments, and do nothing else."""

DTYPES: Final[Mapping[int, str]] = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool"}
}
"""The name of each of the schema's data types of elements that is read."""

_TARGET: Final = re.compile(r"torch\.ops\.aten\.(\w+\.\w+)")
_PICKLES: Final = re.compile(r".*\.(pt|pth|pkl|pickle)|.*/(custom_obj|opaque_obj)_[^/]*")
_MOST_JSON_BYTES: Final = 128 * 1024 * 1024
_STORED: Final = {
    **{"parameter": ("weights", "parameter_name"), "buffer": ("weights", "buffer_name")},
    "tensor_constant": ("constants", "tensor_constant_name"),
}


@final
@dataclass(frozen=True, slots=True)
class Program:
    """A network: a function of its inputs that returns a tuple of tensors, and the types of the inputs."""

    module: fx.GraphModule
    inputs: tuple[TensorType, ...]


def read_program(model: bytes, device: str = "cpu") -> Program:
    """Return the program of an archive with its tensors on a device.

    Raises :class:`~leti.core.errors.MeasurementFailed` with ``details["failure"]`` "bad-model" for what is no such
    archive, is damaged or holds a pickle, and "unsupported" for operators and arguments that are not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as file:
            archive = _Archive(file, len(model))
            return _Reader(archive, device).program(archive.json("models/model.json"))
    except (zipfile.BadZipFile, struct.error, OSError, EOFError) as error:
        raise bad_model(f"it is no archive of a program ({error!s:.80})") from error
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
        raise bad_model(f"it is not of the form that PyTorch writes ({type(error).__name__}: {error!s:.80})") from error
    except RuntimeError as error:  # of too deep JSON, or PyTorch's, of a tensor outside of what is stored of it
        raise bad_model(first_line(error)) from error


def bad_model(why: str) -> MeasurementFailed:
    """Return the error of a file that is no program."""
    return MeasurementFailed(f"PyTorch cannot load the model: {why}", field="model", failure="bad-model")


def _unsupported(what: str) -> MeasurementFailed:
    return MeasurementFailed(f"the model holds {what}, which is not read", field="model", failure="unsupported")


# --- the archive -----------------------------------------------------------------------------------------------------


@final
class _Archive:
    """The members of an archive, read when they are asked for, by their names below its one folder."""

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        infos = file.infolist()
        self._file = file
        self._members = {info.filename.partition("/")[2]: info for info in infos}
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
            raise bad_model("it is compressed, which PyTorch's archives are not")
        if len(self._members) < len(infos) or len({info.filename.partition("/")[0] for info in infos}) != 1:
            raise bad_model("it has other than one folder, or several members of one name")
        if sum(info.file_size for info in infos) > size:
            raise bad_model("its members overlap")
        for name, info in self._members.items():
            if info.file_size and _PICKLES.fullmatch(name):
                raise bad_model(f"it holds a pickle, {name[:80]!r}, which could run anything")
        if self.read("archive_format") != b"pt2" or self.read("byteorder") != b"little":
            raise bad_model("it is no archive of a program, or of another order of bytes")

    def read(self, name: str) -> bytes:
        """Return what a member holds; raise ``KeyError`` where there is none."""
        return self._file.read(self._members[name])

    def json(self, name: str) -> dict[str, Any]:
        """Return the object that a member holds."""
        if self._members[name].file_size > _MOST_JSON_BYTES:
            raise bad_model(f"{name} has more than {_MOST_JSON_BYTES} bytes")
        read = json.loads(self.read(name))
        if not isinstance(read, dict):
            raise bad_model(f"{name} holds no object")
        return read


# --- the program -----------------------------------------------------------------------------------------------------


@final
class _Reader:
    """Rebuilds the calls of a program; names in the module are made here, and none are the file's."""

    def __init__(self, archive: _Archive, device: str) -> None:
        self._archive = archive
        self._device = device
        self._module = torch.nn.Module()
        self._graph = fx.Graph()
        self._nodes: dict[str, fx.Node] = {}

    def program(self, model: Mapping[str, Any]) -> Program:
        """Return the program of an archive's JSON."""
        if model["schema_version"]["major"] != SCHEMA_MAJOR:
            raise _unsupported(f"version {model['schema_version']['major']!r:.20} of the schema of exported programs")
        graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
        inputs = self._place_inputs(graph, signature)
        for node in graph["nodes"]:
            self._place(node)
        returned = [_one(output, "as_tensor")["name"] for output in graph["outputs"]]
        self._graph.output(tuple(self._nodes[name] for name in returned))
        return Program(fx.GraphModule(self._module, self._graph), inputs)

    def _place_inputs(self, graph: Mapping[str, Any], signature: Mapping[str, Any]) -> tuple[TensorType, ...]:
        tables = {kind: self._archive.json(f"data/{kind}/model_{kind}_config.json")["config"] for kind in _KINDS}
        types: list[TensorType] = []
        for item in signature["input_specs"]:
            ((kind, spec),) = item.items()
            if kind == "user_input":
                name = str(_one(spec["arg"], "as_tensor")["name"])
                meta = graph["tensor_values"][name]
                types.append((_sizes(meta["sizes"]), _dtype(meta["dtype"])))
                self._nodes[name] = self._graph.placeholder(f"x{len(types)}")
            elif kind in _STORED:
                folder, key = _STORED[kind]
                place = f"t{len(self._nodes)}"
                # No parameter and no buffer, but an attribute: found without a search at each run.
                setattr(self._module, place, self._tensor(folder, tables[folder][str(spec[key])]))
                self._nodes[str(spec["arg"]["name"])] = self._graph.get_attr(place)
            else:
                raise _unsupported(f"an input that is a {kind!r:.40}")
        return tuple(types)

    def _tensor(self, folder: str, entry: Mapping[str, Any]) -> torch.Tensor:
        if entry["use_pickle"]:
            raise bad_model("it holds a pickled tensor")
        meta = entry["tensor_meta"]
        dtype, sizes, strides = getattr(torch, _dtype(meta["dtype"])), _sizes(meta["sizes"]), _sizes(meta["strides"])
        data = self._archive.read(f"data/{folder}/{entry['path_name']}")
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        seen = flat.as_strided(sizes, strides, _integer(meta["storage_offset"]["as_int"]))
        if seen.numel() > flat.numel():
            raise bad_model("a tensor repeats what it stores")
        return seen.clone(memory_format=torch.contiguous_format).to(self._device)  # where PyTorch would have put it

    def _place(self, node: Mapping[str, Any]) -> None:
        found = _TARGET.fullmatch(node["target"])
        if found is None or found[1] not in OPERATORS:
            raise _unsupported(f"the operator {node['target']!r:.80}")
        called = operator.attrgetter(found[1])(torch.ops.aten)
        given = {str(item["name"]): self._argument(item["arg"]) for item in node["inputs"]}
        declared = called._schema.arguments
        # Names become part of what is run: the schema's alone will do.
        named = {argument.name: given.pop(argument.name) for argument in declared if argument.name in given}
        if given:
            raise bad_model(f"{found[1]} takes no {next(iter(given))[:40]!r}")
        positional = []
        for argument in declared:
            if argument.kwarg_only or argument.name not in named:
                break
            positional.append(named.pop(argument.name))
        made = self._graph.call_function(called, tuple(positional), named)
        outputs = node["outputs"]
        if len(outputs) == 1 and "as_tensor" in outputs[0]:
            self._nodes[outputs[0]["as_tensor"]["name"]] = made
            return
        listed = outputs[0]["as_tensors"] if len(outputs) == 1 else [_one(each, "as_tensor") for each in outputs]
        for i, output in enumerate(listed):
            self._nodes[output["name"]] = self._graph.call_function(operator.getitem, (made, i))

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in _PLAIN:
            return _PLAIN[kind](value)
        if kind == "as_tensor":
            return self._nodes[value["name"]]
        if kind == "as_tensors":
            return [self._nodes[item["name"]] for item in value]
        if kind == "as_optional_tensors":
            return [self._nodes[item["as_tensor"]["name"]] if "as_tensor" in item else None for item in value]
        raise _unsupported(f"an argument {kind!r:.40}")


_KINDS: Final = ("weights", "constants")
_WORDS: Final = frozenset({"none", "tanh", "constant", "reflect", "replicate", "circular"})
_NUMBERS: Final[Mapping[object, float]] = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def _one(argument: Mapping[str, Any], kind: str) -> Any:
    if set(argument) != {kind}:
        raise _unsupported(f"an input or output that is {', '.join(argument)[:40]}")
    return argument[kind]


def _integer(value: object) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(value)
    return value


def _float(value: object) -> float:
    return _NUMBERS[value] if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _word(value: object) -> str:
    if value not in _WORDS:
        raise _unsupported(f"the word {value!r:.40}")
    return str(value)


def _dtype(element: object) -> str:
    if type(element) is not int or element not in DTYPES:
        raise _unsupported(f"elements of type {element!r:.20}")
    return DTYPES[element]


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    if any("as_int" not in size for size in sizes):
        raise _unsupported("an open size")
    return tuple(_integer(size["as_int"]) for size in sizes)


_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "as_none": lambda _: None,
    "as_bool": bool,
    "as_int": _integer,
    "as_ints": lambda values: [_integer(value) for value in values],
    "as_float": _float,
    "as_string": _word,
    "as_scalar_type": lambda value: getattr(torch, _dtype(value)),
}
"""Arguments that are no tensors."""
