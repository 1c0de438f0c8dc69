"""Networks of low rank: operators taken apart, with weights, and taken apart further without their full kernels.

The graph is that of :mod:`leti.generator.compressing.patching`, so that what is predicted is what is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from leti.compression.low_rank.decompositions import Cp, Factors, Ranks, Svd, Tucker2, decompose
from leti.compression.low_rank.polyadic import Polyadic
from leti.compression.low_rank.tensors import Array, relative_error
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.graph import Graph, Op
from leti.core.patches import Patch
from leti.generator.compressing.factors import factors, most_ranks
from leti.generator.compressing.patching import Patched, patched
from leti.generator.importers import Imported
from leti.generator.weights import check_weights

with needs("compression"):
    import numpy as np

_NONE: Final[Mapping[int, Ranks]] = {}


def decomposed(imported: Imported, ranks: Mapping[int, Ranks]) -> Imported:
    """Return the network whose operators of these numbers are taken apart, each into factors of its ranks.

    What ranks mean is said by :class:`~leti.core.patches.Patch`; the bias is the last factor's, and a stride, padding
    and dilation those of the factor that has the window. Raises :class:`~leti.core.errors.InvalidInput`, naming
    ``patch.ranks[...]``, for an operator that is not taken apart (of groups, depthwise, transposed …) and ranks that it
    cannot have, and for a network without weights.
    """
    return LowRank.of(imported).again(ranks).imported


@final
@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """An operator of the base that can be taken apart, and what it is now: a dense kernel, or factors.

    ``op`` is the base's, ``kernel`` lies as ``(out, *window, in)``.
    """

    number: int
    op: Op
    kernel: Array | Factors

    @property
    def ranks(self) -> Ranks:
        """Its ranks, none where it is dense."""
        return () if isinstance(self.kernel, np.ndarray) else self.kernel.ranks

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base's kernel, ``(out, *window, in)``."""
        channels = self.op.outputs[0].shape[-1], self.op.inputs[0].shape[-1]
        return channels[0], *self.op.integers("kernel", ()), channels[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of what it is now."""
        return self.macs_of(self.ranks)

    def macs_of(self, ranks: Ranks) -> int:
        """Return the multiply-accumulates of what it is with these ranks, none for dense."""
        if not ranks:
            return self.op.macs
        return sum(op.macs for _, op in factors(self.op, ranks, f"ranks[{self.number}]"))

    def core(self) -> Array:
        """Return the kernel, or what is left of it between orthonormal bases."""
        return self.kernel if isinstance(self.kernel, np.ndarray) else self.kernel.core()

    def again(self, ranks: Ranks) -> tuple[Factors, float]:
        """Return its factors of these ranks, and their relative error; the core of what has factors is all it takes.

        Raises :class:`~leti.core.errors.InvalidInput` for ranks that it cannot have, or another form than it has.
        """
        if isinstance(self.kernel, np.ndarray):
            found = decompose(self.kernel, ranks)
            return found, relative_error(self.kernel, found.kernel())
        now = self.kernel.ranks
        if len(ranks) != len(now) or any(new > old for new, old in zip(ranks, now, strict=False)):
            raise InvalidInput(
                f"must be at most {list(now)}, not {list(ranks)}: it is of that form and rank already",
                field=f"ranks[{self.number}]",
            )
        return self.kernel.again(ranks)


@final
@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """A network of which some operators are taken apart: ``imported`` is what it is now, ``base`` what it comes from.

    ``ranks`` are by the base's numbers. ``errors`` say how far each kernel that was compressed last is from what it was
    before, relative to that.
    """

    base: Graph
    imported: Imported
    ranks: Mapping[int, Ranks] = field(default_factory=dict)
    errors: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, imported: Imported, base: Graph | None = None, ranks: Mapping[int, Ranks] = _NONE) -> LowRank:
        """Return a network as it is: its own base, or what these ranks make of another.

        Raises :class:`~leti.core.errors.InvalidInput` where it has no weights, or is not what ranks make of the base.
        """
        found = cls(imported.graph if base is None else base, imported, dict(ranks))
        weights = imported.loaded_weights()
        if found._patched(ranks).graph != imported.graph:
            raise InvalidInput("is not what the ranks make of the base", field="imported")
        check_weights(imported.graph, weights)
        return found

    def layers(self) -> Iterator[Layer]:
        """Yield the operators of the base that can be taken apart, in order."""
        for number, places in self._places(self._patched(self.ranks)).items():
            op = self.base.ops[number]
            if most_ranks(op):
                kernels = [self.imported.loaded_weights()[place][0] for place in places]
                ranks = self.ranks.get(number, ())
                yield Layer(number, op, _factors_of(op, ranks, kernels) if ranks else kernels[0])

    def again(self, ranks: Mapping[int, Ranks]) -> LowRank:
        """Return the network with these ranks as well, or instead; operators that are not named stay as they are.

        Raises :class:`~leti.core.errors.InvalidInput` as :func:`decomposed` and :meth:`Layer.again` do.
        """
        changed = {number: tuple(new) for number, new in ranks.items() if self.ranks.get(number) != tuple(new)}
        after = {**self.ranks, **changed}
        result, before = self._patched(after), self._places(self._patched(self.ranks))
        weights, names = self.imported.loaded_weights(), self.imported.names
        layers = {layer.number: layer for layer in self.layers() if layer.number in changed}
        errors: dict[int, float] = {}
        made: list[tuple[Array, ...]] = []
        named: list[str] = []
        for number, places in self._places(result).items():
            last = before[number][-1]
            if number not in changed:
                made += [weights[place] for place in before[number]]
                named += [names[place] for place in before[number]]
                continue
            layer = layers[number]
            found, errors[number] = layer.again(changed[number])
            *inner, outer = found.weights
            made += [(kernel,) for kernel in inner]
            made.append((outer, *weights[last][1:]))
            whole = names[last].removesuffix(".last") if layer.ranks else names[last]
            named += [f"{whole}.{result.origins[place][1]}" for place in places]
        check_weights(result.graph, made)
        return LowRank(self.base, Imported(result.graph, tuple(named), tuple(made)), after, errors)

    def with_weights(self, imported: Imported) -> LowRank:
        """Return the network with other weights, such as fine-tuned ones.

        Raises :class:`~leti.core.errors.InvalidInput` for those of another graph, or what check_weights refuses.
        """
        if imported.graph != self.imported.graph:
            raise InvalidInput("is another graph", field="imported", remedy="change the weights alone")
        check_weights(self.imported.graph, imported.loaded_weights())
        return replace(self, imported=imported)

    def _patched(self, ranks: Mapping[int, Ranks]) -> Patched:
        return patched(self.base, Patch(ranks=dict(ranks)))

    @staticmethod
    def _places(made: Patched) -> dict[int, list[int]]:
        """Return the numbers of the operators that each operator of the base has become."""
        places: dict[int, list[int]] = {}
        for place, (number, _) in enumerate(made.origins):
            places.setdefault(number, []).append(place)
        return places


def _factors_of(op: Op, ranks: Ranks, kernels: Sequence[Array]) -> Factors:
    """Return factors whose weights are these kernels of operators one after the other."""
    window = op.integers("kernel", ())
    first, *between, last = [np.asarray(kernel, np.float64) for kernel in kernels]
    inner, outer = first.reshape(len(first), -1), last.reshape(len(last), -1)
    if math.prod(window) == 1:
        return Svd(inner, outer, window)
    if len(ranks) == 2:
        return Tucker2(inner, between[0], outer)
    along = [kernel.reshape(-1, ranks[0]) for kernel in between]
    return Cp(Polyadic((outer, *along, inner.T)))
