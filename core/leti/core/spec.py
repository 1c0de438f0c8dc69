"""NetworkSpec: a network as adjacency matrix, list of layers and config.

The parameterisation of "Latency Estimation Tool and Investigation of Neural Networks Inference on Mobile GPU"
(Ponomarev et al., 2021). A spec comes in two grains: a *cell* that the config stacks (NAS-Bench-101, NAS-Bench-201), or
a *whole network*, layer by layer. ``space`` names the search space that says how a spec is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from leti.core.codec import Json, from_json, read_object, to_json
from leti.core.errors import InvalidSpec, TooLarge

Attribute = bool | int | float | str | tuple[int, ...]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:+-]{0,63}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One node of a spec: a name and attributes, sorted by key. JSON: the name alone, or an object with ``name``."""

    name: str
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def __post_init__(self) -> None:
        """Check the name; a space checks that it knows it."""
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidSpec(f"a layer cannot be named {str(self.name)[:80]!r}", field="name")
        object.__setattr__(self, "attributes", tuple(sorted(self.attributes)))

    def to_json(self) -> Json:
        """Return the name, or an object of name and attributes."""
        if not self.attributes:
            return self.name
        return {"name": self.name, **{key: to_json(value) for key, value in self.attributes}}

    @classmethod
    def from_json(cls, data: Json, where: str = "layer") -> Layer:
        """Read either form; raise :class:`InvalidSpec` naming ``where``."""
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, dict) or "name" not in data:
            raise InvalidSpec("must be a name, or an object with a name", field=where)
        attributes = []
        for key, value in data.items():
            if key == "name":
                continue
            if isinstance(value, list) and all(type(item) is int for item in value):
                value = tuple(value)
            if not isinstance(value, bool | int | float | str | tuple):
                raise InvalidSpec("must be a number, a string, a truth value or integers", field=f"{where}.{key}")
            attributes.append((str(key), value))
        try:
            return cls(data["name"], tuple(attributes))
        except InvalidSpec as error:
            raise InvalidSpec(error.message, field=f"{where}.{error.field}") from None


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What a spec says besides its cell; the defaults are NAS-Bench-201's network.

    ``input_shape`` is ``(height, width, channels)``; ``modules_per_stack`` cells stand in each of ``stacks`` stacks,
    the channels double from stack to stack, beginning at ``stem_channels``.
    """

    input_shape: tuple[int, int, int] = (32, 32, 3)
    batch: int = 1
    stem_channels: int = 16
    stacks: int = 3
    modules_per_stack: int = 5
    classes: int = 10

    LIMITS: ClassVar[dict[str, tuple[int, int]]] = {
        "batch": (1, 1024),
        "stem_channels": (1, 4096),
        "stacks": (1, 8),
        "modules_per_stack": (1, 32),
        "classes": (1, 100_000),
    }

    def __post_init__(self) -> None:
        """Raise :class:`InvalidSpec` where a value is outside its limits."""
        for name, (low, high) in self.LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise InvalidSpec(f"must be a whole number from {low} to {high}, not {value!r}", field=name)
        shape = self.input_shape
        if len(shape) != 3 or any(type(n) is not int or not 1 <= n <= 4096 for n in shape):
            raise InvalidSpec(
                f"must be height, width and channels, each from 1 to 4096, not {shape!r}", field="input_shape"
            )


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network: ``adjacency`` (N×N, upper-triangular, 0/1), N ``layers``, a ``config``, and the ``space`` they are of.

    Node 0 is the input, node N-1 the output. An edge ``adjacency[i][j] = 1`` with ``i < j`` feeds node ``j`` from
    node ``i``, so that no cycle can be written. Raises :class:`InvalidSpec`, naming the place, for a matrix that is not
    square, not upper-triangular or not of 0 and 1, a count of layers that differs, or an output that no path reaches.
    """

    space: str
    adjacency: tuple[tuple[int, ...], ...]
    layers: tuple[Layer, ...]
    config: NetworkConfig = field(default_factory=NetworkConfig)

    MAX_NODES: ClassVar[int] = 1000

    def __post_init__(self) -> None:
        """Check the rules that hold in every space."""
        if not isinstance(self.space, str) or not _NAME.fullmatch(self.space):
            raise InvalidSpec(f"a space cannot be named {str(self.space)[:80]!r}", field="space")
        _check_size(len(self.layers), "layers")
        _check_size(len(self.adjacency), "adjacency")
        if len(self.layers) < 2:
            raise InvalidSpec("must hold the input and the output at least", field="layers")
        _check_matrix(self.adjacency, len(self.layers))
        if len(self.layers) - 1 not in reachable(self.adjacency, 0):
            raise InvalidSpec(
                "no path leads from the input (node 0) to the output (the last node)",
                field="adjacency",
                remedy="add edges so that the output is reached",
            )

    def to_json(self) -> Json:
        """Return ``{"space", "adjacency", "layers", "config"}``."""
        return {
            "space": self.space,
            "adjacency": to_json(self.adjacency),
            "layers": to_json(self.layers),
            "config": to_json(self.config),
        }

    @classmethod
    def from_json(cls, data: Json, where: str = "spec") -> NetworkSpec:
        """Read what :meth:`to_json` writes; raise :class:`InvalidSpec` naming the place. ``config`` may be absent."""
        read = read_object(data, where, required=("space", "adjacency", "layers"), optional=("config",))
        rows, names = read["adjacency"], read["layers"]
        for name, value in (("adjacency", rows), ("layers", names)):
            if not isinstance(value, list):
                raise InvalidSpec("must be an array", field=f"{where}.{name}")
            _check_size(len(value), f"{where}.{name}")
        for i, row in enumerate(rows):
            if not isinstance(row, list):
                raise InvalidSpec("must be an array of 0 and 1", field=f"{where}.adjacency[{i}]")
            _check_size(len(row), f"{where}.adjacency[{i}]")
        layers = tuple(Layer.from_json(layer, f"{where}.layers[{i}]") for i, layer in enumerate(names))
        config = from_json(NetworkConfig, read.get("config", {}), f"{where}.config")
        try:
            return cls(read["space"], tuple(tuple(row) for row in rows), layers, config)
        except InvalidSpec as error:
            error.field = f"{where}.{error.field}"
            raise

    @classmethod
    def loads(cls, text: str | bytes) -> NetworkSpec:
        """Read a spec from JSON text; raise :class:`InvalidSpec` where it is not JSON."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidSpec(f"is not JSON: {error}", field="spec") from None
        return cls.from_json(data)


def reachable(adjacency: Sequence[Sequence[int]], start: int) -> set[int]:
    """Return the nodes that an upper-triangular matrix's edges lead to from ``start``, itself included."""
    found = {start}
    for i in range(start, len(adjacency)):
        if i in found:
            found.update(j for j in range(i + 1, len(adjacency)) if adjacency[i][j])
    return found


def _check_size(count: int, place: str) -> None:
    if count > NetworkSpec.MAX_NODES:
        raise TooLarge(
            f"has {count} nodes", field=place, remedy=f"at most {NetworkSpec.MAX_NODES}", limit=NetworkSpec.MAX_NODES
        )


def _check_matrix(adjacency: tuple[tuple[int, ...], ...], layers: int) -> None:
    size = len(adjacency)
    if size != layers:
        raise InvalidSpec(
            f"has {size} rows for {layers} layers", field="adjacency", remedy="give one row and one column a layer"
        )
    for i, row in enumerate(adjacency):
        if len(row) != size:
            raise InvalidSpec(
                f"has {len(row)} entries where the matrix has {size} rows",
                field=f"adjacency[{i}]",
                remedy="the matrix must be square",
            )
        for j, entry in enumerate(row):
            if type(entry) is not int or entry not in (0, 1):
                raise InvalidSpec(f"must be 0 or 1, not {entry!r}", field=f"adjacency[{i}][{j}]")
            if entry and j <= i:
                raise InvalidSpec(
                    "is on or below the diagonal: an edge must lead to a later node, else there is a cycle",
                    field=f"adjacency[{i}][{j}]",
                    remedy="the matrix must be upper-triangular",
                )
