"""Lowering: NetworkSpec → Graph, the operators that run."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from leti.core.errors import InvalidSpec
from leti.core.graph import Encoding, Graph, TensorType
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder, stacked
from leti.generator.spaces import SearchSpace, get_space
from leti.generator.spaces.space import check_choices

ZEROS: tuple[Zero, ...] = ("execute", "fold", "prune")


def lower(spec: NetworkSpec, zero: Zero = "execute") -> Graph:
    """Return the graph that a spec's network runs.

    ``zero`` says what NAS-Bench-201's ``none`` does, other spaces have none. ``"execute"`` is its reference
    implementation: a multiplication by zero that runs and is added, as does everything that it feeds; only what does
    not reach the output is dropped. As in the converter's files, the multiplication vanishes into the weights of a
    convolution that nothing else reads, which then runs like any other. ``"fold"`` is what exporters make that know
    ``x * 0``: zeros vanish from sums, and what reads nothing but zeros still runs, on one multiplication by zero.
    ``"prune"`` takes away what only zeros feed; a degenerate cell becomes one multiplication by zero, so that the
    network stays connected. Raises :class:`InvalidSpec` where the spec breaks a rule of its space.
    """
    _check_zero(zero)
    space = get_space(spec.space)
    space.check(spec)
    builder = GraphBuilder(_image(spec.config))
    output = space.build(spec, zero, builder)
    return builder.graph(output, Encoding(space.name, space.encode(spec)))


def lower_choices(
    space: SearchSpace, choices: Sequence[int], config: NetworkConfig, zero: Zero = "execute"
) -> tuple[Graph, bool]:
    """Return the graph of a vector of a space's choices, and whether it is degenerate, as :func:`lower` makes it.

    Where the space knows how (:meth:`~leti.generator.spaces.space.SearchSpace.stacked`), no spec is made. Raises
    :class:`InvalidSpec` naming the position, ``choices[i]``, or another place where the vector is no network.
    """
    _check_zero(zero)
    checked = check_choices(choices, space.positions)
    found = space.stacked(checked, config, zero)
    if found is not None:
        graph = stacked(_image(config), found.stamps, Encoding(space.name, checked))
        if graph is not None:
            return graph, found.degenerate
    spec = space.decode(checked, config)
    return lower(spec, zero), space.is_degenerate(spec)


def _check_zero(zero: Zero) -> None:
    if zero not in ZEROS:
        raise InvalidSpec(f"must be one of {', '.join(ZEROS)}, not {zero!r}", field="zero")


@functools.lru_cache(maxsize=256)
def _image(config: NetworkConfig) -> TensorType:
    return TensorType((config.batch, *config.input_shape))
