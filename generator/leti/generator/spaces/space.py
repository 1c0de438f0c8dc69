"""SearchSpace: what every search space can say of its networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

from leti.core.errors import InvalidInput, InvalidSpec
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.builder import GraphBuilder


class SearchSpace(ABC):
    """A set of networks, and how their specs are read. Stateless: one object a space."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, spec: NetworkSpec) -> None:
        """Raise :class:`InvalidSpec`, naming the place, where ``spec`` is not a network of this space."""

    @abstractmethod
    def sample(self, count: int, seed: int, config: NetworkConfig) -> tuple[NetworkSpec, ...]:
        """Return ``count`` networks drawn by ``seed``, no two of one isomorphism class and none degenerate.

        Raises :class:`InvalidInput`, saying how many there are, where more are asked for.
        """

    @abstractmethod
    def isomorphism_class(self, spec: NetworkSpec) -> str:
        """Return the name of the spec's class in the space's own notion of isomorphism; its config plays no part."""

    @abstractmethod
    def is_degenerate(self, spec: NetworkSpec) -> bool:
        """Return whether the cell's output does not depend on its input."""

    @abstractmethod
    def encoding(self, spec: NetworkSpec) -> tuple[int, ...]:
        """Return the choice at each of the space's positions, equally many for every spec."""

    @abstractmethod
    def build(self, spec: NetworkSpec, zero: Zero, builder: GraphBuilder) -> int:
        """Place the operators of a checked spec, from the builder's value 0 on; return the output's value number."""


def check_layers(spec: NetworkSpec, known: Collection[str]) -> None:
    """Raise :class:`InvalidSpec` for the first layer between input and output not of ``known``, or with attributes."""
    for i, layer in enumerate(spec.layers):
        expected = {0: ("input",), len(spec.layers) - 1: ("output",)}.get(i, known)
        if layer.name not in expected:
            raise InvalidSpec(
                f"{layer.name!r} is no layer of {spec.space} here",
                field=f"layers[{i}]",
                remedy=f"known here: {', '.join(expected)}",
            )
        if layer.attributes:
            raise InvalidSpec(
                f"{layer.name} takes no attributes in {spec.space}",
                field=f"layers[{i}].{layer.attributes[0][0]}",
                remedy="give its name alone",
            )


def check_count(count: int, most: int, space: str) -> None:
    """Raise :class:`InvalidInput` where ``count`` networks cannot be drawn from the ``most`` that there are."""
    if type(count) is not int or not 0 <= count <= most:
        raise InvalidInput(
            f"{count!r} networks cannot be drawn: {space} has {most} without isomorphic or degenerate repeats",
            field="count",
            remedy=f"ask for at most {most}",
            available=most,
        )
