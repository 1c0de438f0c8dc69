"""The search spaces, by name; and how a network that a user gives is read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from leti.core.errors import InvalidSpec
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import NetworkInput
from leti.generator.spaces.nasbench101 import NasBench101
from leti.generator.spaces.nasbench201 import NasBench201, spec_of
from leti.generator.spaces.space import SearchSpace

__all__ = ["SPACES", "SearchSpace", "get_space", "parse_network"]

SPACES: Mapping[str, SearchSpace] = MappingProxyType({space.name: space for space in (NasBench101(), NasBench201())})
"""Every search space by its name."""


def get_space(name: str) -> SearchSpace:
    """Return the space of this name; raise :class:`InvalidSpec` listing the spaces where there is none."""
    try:
        return SPACES[name]
    except KeyError:
        raise InvalidSpec(
            f"there is no search space {name[:80]!r}", field="space", remedy=f"known: {', '.join(SPACES)}"
        ) from None


def parse_network(value: NetworkInput, where: str, config: NetworkConfig = NetworkConfig()) -> NetworkSpec:  # noqa: B008 - frozen
    """Return the checked spec of a network as users give it: an architecture string of NAS-Bench-201, or a JSON object.

    ``config`` goes with an architecture string; an object says its own. Raises
    :class:`~leti.core.errors.InvalidInput` naming the place below ``where``.
    """
    if isinstance(value, str):
        return spec_of(value, config, where)
    if not isinstance(value, dict):
        raise InvalidSpec("must be an architecture string of NAS-Bench-201, or a spec's JSON object", field=where)
    spec = NetworkSpec.from_json(value, where)
    try:
        get_space(spec.space).check(spec)
    except InvalidSpec as error:
        error.field = f"{where}.{error.field}"
        raise
    return spec
