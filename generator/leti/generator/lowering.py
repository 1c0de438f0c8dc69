"""Lowering: NetworkSpec → Graph, the operators that run."""

from __future__ import annotations

from leti.core.errors import InvalidSpec
from leti.core.graph import Encoding, Graph, TensorType
from leti.core.spec import NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder
from leti.generator.spaces import get_space

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
    if zero not in ZEROS:
        raise InvalidSpec(f"must be one of {', '.join(ZEROS)}, not {zero!r}", field="zero")
    space = get_space(spec.space)
    space.check(spec)
    builder = GraphBuilder(TensorType((spec.config.batch, *spec.config.input_shape)))
    output = space.build(spec, zero, builder)
    return builder.graph(output, Encoding(space.name, space.encode(spec)))
