"""The search spaces, by name; and how a network that a user gives is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

from leti.core.errors import InvalidSpec
from leti.core.plugins import PluginGroup
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import NetworkInput
from leti.generator.spaces.chains import Chains
from leti.generator.spaces.darts import Darts
from leti.generator.spaces.fbnet import FBNet
from leti.generator.spaces.mobilenetv3 import MobileNetV3
from leti.generator.spaces.nasbench101 import NasBench101
from leti.generator.spaces.nasbench201 import NasBench201, choices_of
from leti.generator.spaces.random_graphs import RandomGraphs
from leti.generator.spaces.space import SearchSpace, check_choices

__all__ = ["SPACES", "SearchSpace", "get_space", "parse_choices", "parse_network", "space_names"]

SPACES: Mapping[str, SearchSpace] = MappingProxyType(
    {
        space.name: space
        for space in (NasBench101(), NasBench201(), FBNet(), MobileNetV3(), Chains(), Darts(), RandomGraphs())
    }
)
"""The search spaces that are built in, by name."""

PLUGINS = PluginGroup("leti.spaces", SearchSpace, builtin=tuple(SPACES), named_by="name")
"""Search spaces of other packages."""


def space_names() -> tuple[str, ...]:
    """Return the names of all spaces, those of plugins last."""
    return (*SPACES, *PLUGINS.names())


def get_space(name: str) -> SearchSpace:
    """Return the space of this name.

    Raises :class:`InvalidSpec` listing the spaces where there is none, and
    :class:`~leti.core.errors.MissingExtra` where a plugin cannot be loaded.
    """
    if name in SPACES:
        return SPACES[name]
    if name in PLUGINS.names():
        return _plugin(name)
    raise InvalidSpec(
        f"there is no search space {name[:80]!r}", field="space", remedy=f"known: {', '.join(space_names())}"
    )


@functools.cache
def _plugin(name: str) -> SearchSpace:
    return cast(SearchSpace, PLUGINS.load(name)())


def parse_network(value: NetworkInput, where: str, config: NetworkConfig | None = None) -> NetworkSpec:
    """Return the checked spec of a network as users give it: an architecture string, or a spec's JSON object.

    ``config`` goes with an architecture string, ``None`` is its space's own; an object says its own. Raises
    :class:`~leti.core.errors.InvalidInput` naming the place below ``where``.
    """
    if isinstance(value, str):
        space, choices = parse_choices(value, where)
        try:
            spec = space.decode(choices, config or space.default_config)
            space.check(spec)
        except InvalidSpec as error:
            error.field = where + error.field.removeprefix("choices")
            raise
        return spec
    if not isinstance(value, dict):
        raise InvalidSpec("must be an architecture string, or a spec's JSON object", field=where)
    spec = NetworkSpec.from_json(value, where)
    try:
        get_space(spec.space).check(spec)
    except InvalidSpec as error:
        error.field = f"{where}.{error.field}"
        raise
    return spec


def parse_choices(text: str, where: str) -> tuple[SearchSpace, tuple[int, ...]]:
    """Return the space and the choices of an architecture string.

    That is one of NAS-Bench-201's own, or the name of any space, a colon, and the choice at each of its positions,
    commas between: ``fbnet:0,8,3,…``. Raises :class:`~leti.core.errors.InvalidSpec` at ``where``.
    """
    name, colon, numbers = text[:_MOST_TEXT].rpartition(":")
    if not colon:
        return SPACES[NasBench201.name], choices_of(text, where)
    try:
        space = get_space(name)
        return space, check_choices(_integers(numbers), space.positions)
    except InvalidSpec as error:
        error.field = where + error.field.removeprefix("choices") if error.field != "space" else where
        raise


def _integers(text: str) -> list[int]:
    if not _NUMBERS.fullmatch(text):
        raise InvalidSpec(f"{text[:60]!r} are no choices", field="", remedy="whole numbers, commas between")
    return [int(number) for number in text.split(",")]


_MOST_TEXT: Final = 10_000
_NUMBERS: Final = re.compile(r"[0-9]{1,4}(,[0-9]{1,4}){0,999}")
