"""Networks in one file, as ``{hash: [matrix, labels]}``: the form of NAS-Bench-101's generated graphs.

"NAS-Bench-101: Towards Reproducible Neural Architecture Search" (Ying et al., 2019) lists its cells so, and "Latency
Estimation Tool and Investigation of Neural Networks Inference on Mobile GPU" (Ponomarev et al., 2021) describes
networks by such a matrix, labels and a config that goes with the file. Labels are names, or NAS-Bench-101's numbers: -1
is the input, -2 the output, 0, 1 and 2 are 3×3 convolution, 1×1 convolution and 3×3 maximum pool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from leti.core.codec import Json
from leti.core.errors import InvalidInput, InvalidSpec, TooLarge
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.generator.spaces import get_space
from leti.generator.spaces.nasbench101 import NAME as NASBENCH101
from leti.generator.spaces.nasbench101 import OPERATIONS

MAX_BYTES: Final = 256 * 1024 * 1024
"""Size of a file that is read: more than twice that of all cells of NAS-Bench-101."""

MAX_NETWORKS: Final = 1_000_000
MAX_HASH: Final = 200
"""Characters of a hash."""

NUMBERS: Final[Mapping[int, str]] = {-1: "input", -2: "output", **dict(enumerate(OPERATIONS))}
"""What the numbers among labels stand for."""

_FORM: Final = '{"hash": [matrix, labels]}'


def read_networks(
    source: Path | str | bytes, config: NetworkConfig, *, space: str = NASBENCH101
) -> dict[str, NetworkSpec]:
    """Return the networks of a file, or of its text, by their hashes, each checked by its space.

    Raises :class:`InvalidInput`, naming hash and place, for a network that is none, a hash that stands twice or what is
    no such file; :class:`TooLarge` for more than :data:`MAX_BYTES` or :data:`MAX_NETWORKS`.
    """
    entries = _read_entries(_read_text(source))
    checked = get_space(space)
    found: dict[str, NetworkSpec] = {}
    for name, entry in entries:
        where = f"networks[{name[:MAX_HASH]!r}]"
        if len(name) > MAX_HASH:
            raise TooLarge(f"is a hash of {len(name)} characters", field=where, remedy=f"at most {MAX_HASH}")
        if name in found:
            raise InvalidInput("stands twice in the file", field=where)
        spec = _read_entry(entry, config, space, where)
        try:
            checked.check(spec)
        except InvalidSpec as error:
            error.field = f"{where}.{error.field}"
            raise
        found[name] = spec
    return found


def write_networks(specs: Mapping[str, NetworkSpec] | Sequence[NetworkSpec], *, numbers: bool = False) -> str:
    """Return the text of a file with networks by their hashes, or by their classes of isomorphism where there are none.

    ``numbers`` writes NAS-Bench-101's numbers instead of names. What the file cannot hold is refused by
    :class:`InvalidSpec`: layers with attributes, networks of more than one space or config, and of one class.
    """
    named = specs if isinstance(specs, Mapping) else _by_class(specs)
    labels = {name: number for number, name in NUMBERS.items()} if numbers else {}
    first = next(iter(named.values()), None)
    written: dict[str, Json] = {}
    for name, spec in named.items():
        where = f"networks[{name[:MAX_HASH]!r}]"
        if first is not None and (spec.space, spec.config) != (first.space, first.config):
            raise InvalidSpec("is of another space or config than the first, which a file cannot say", field=where)
        for i, layer in enumerate(spec.layers):
            if layer.attributes or (numbers and layer.name not in labels):
                fault = "has attributes" if layer.attributes else "has no number"
                raise InvalidSpec(f"{layer.name} {fault}", field=f"{where}.layers[{i}]", remedy="write the spec's JSON")
        written[name] = [spec.adjacency, [labels.get(layer.name, layer.name) for layer in spec.layers]]
    return json.dumps(written, separators=(",", ":"))


def _by_class(specs: Sequence[NetworkSpec]) -> dict[str, NetworkSpec]:
    found: dict[str, NetworkSpec] = {}
    for i, spec in enumerate(specs):
        name = get_space(spec.space).isomorphism_class(spec)
        if name in found:
            raise InvalidSpec("is isomorphic to one before it", field=f"networks[{i}]", remedy="give hashes")
        found[name] = spec
    return found


def _read_text(source: Path | str | bytes) -> str | bytes:
    if not isinstance(source, Path):
        _check_size(len(source))
        return source
    try:
        _check_size(source.stat().st_size)
        return source.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}", field="networks") from None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise TooLarge(f"has {size} bytes", field="networks", remedy=f"at most {MAX_BYTES}", limit=MAX_BYTES)


def _read_entries(text: str | bytes) -> list[tuple[str, Json]]:
    """Return hashes and entries in order, those that stand twice as well."""
    try:
        data = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is not JSON: {error}", field="networks") from None
    if not isinstance(data, _Pairs):
        raise InvalidInput("must be an object", field="networks", remedy=_FORM)
    if len(data) > MAX_NETWORKS:
        raise TooLarge(
            f"holds {len(data)} networks", field="networks", remedy=f"at most {MAX_NETWORKS}", limit=MAX_NETWORKS
        )
    return data


class _Pairs(list[tuple[str, Json]]):
    """An object's keys and values: told from an array by its class."""


def _read_entry(entry: Json, config: NetworkConfig, space: str, where: str) -> NetworkSpec:
    if not isinstance(entry, list) or isinstance(entry, _Pairs) or len(entry) != 2:
        raise InvalidInput("must be an array of matrix and labels", field=where, remedy=_FORM)
    matrix, labels = entry
    for name, value in (("adjacency", matrix), ("layers", labels)):
        if not isinstance(value, list) or isinstance(value, _Pairs):
            raise InvalidInput("must be an array", field=f"{where}.{name}", remedy=_FORM)
    names = [
        _read_label(label, space, f"{where}.layers[{i}]") for i, label in enumerate(labels[: NetworkSpec.MAX_NODES + 1])
    ]
    data = {"space": space, "adjacency": matrix, "layers": names}
    spec = NetworkSpec.from_json(data, where)
    return NetworkSpec(spec.space, spec.adjacency, spec.layers, config)


def _read_label(label: Json, space: str, where: str) -> str:
    if isinstance(label, str):
        return label
    if space == NASBENCH101 and type(label) is int and label in NUMBERS:
        return NUMBERS[label]
    known = f"a name, or one of {', '.join(map(str, NUMBERS))} in {NASBENCH101}"
    raise InvalidInput(f"{str(label)[:60]} is no label", field=where, remedy=known)
