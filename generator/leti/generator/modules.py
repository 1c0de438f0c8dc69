"""Modules: parts of a network that read one value and make one, traced once and put together to a graph.

Search spaces stack equal cells. What a function places on a fresh input of a type is traced once, with its costs, its
kernels and its digest, and kept; :mod:`leti.generator.assembly` adds a chain of modules up to a graph.

Two things are shared further. Modules that differ in their sizes alone, as the cells of two stages do, have one
:class:`_Plan`; and the form of their digests is remembered by :mod:`leti.core.fingerprint`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple, final

from leti.core.fingerprint import Form, cut
from leti.core.graph import Op, TensorType, Totals
from leti.core.parts import Part
from leti.generator.cost import make_operator
from leti.generator.fusion import RULES, find_kernels, may_fuse
from leti.generator.liveness import FOLDS, Rows, alive_bytes, survivors

REMEMBERED: Final = 8_192
"""Modules that are kept, and half as many plans: a few kilobytes each."""

REMEMBERED_OFFSETS: Final = 16
"""Places of a module for which its wiring is kept."""

_Rows = tuple[tuple[int, ...], ...]

_ONES: Final = [(number,) for number in range(4_096)]  # rows of one number, as most are, made once

_BORDERS_ARE_PAIRS: Final = all(
    len(rule.chain) == 2 for rule in RULES["litert"]
)  # what is longer would span three modules


class Link(NamedTuple):
    """How a module stands and runs after an operator; bytes are in units of the module.

    ``entry`` are operators that run in the kernel of the operator before; ``stencil`` is the wiring and all other
    kernels, of which there are ``others``. ``first`` is what the
    kernel of ``entry`` stores; ``inner`` the most that is alive until the last kernel, ``held`` what is alive before
    that one, ``last`` while it runs.
    """

    entry: tuple[int, ...]
    others: int
    stencil: Stencil
    first: int
    inner: int
    held: int
    last: int


@final
class Stencil:
    """Wiring and kernels, which stand again and again, each time some operators further on."""

    def __init__(self, wiring: Rows, kernels: Rows) -> None:
        self._known: dict[int, tuple[Rows, Rows]] = {0: (wiring, kernels)}
        self._of_parts: dict[tuple[bool, int], tuple[_Rows, _Rows]] = {}
        self._tables: tuple[_Table, _Table] | None = None

    def at(self, offset: int) -> tuple[Rows, Rows]:
        """Return wiring and kernels with ``offset`` added to each number."""
        found = self._known.get(offset)
        if found is None:
            if self._tables is None:
                self._tables = _Table(self._known[0][0]), _Table(self._known[0][1])
            wiring, kernels = self._tables
            found = wiring.shifted(offset), kernels.shifted(offset)
            if len(self._known) < REMEMBERED_OFFSETS:
                self._known[offset] = found
        return found

    def of_part(self, entered: bool, added: int) -> tuple[_Rows, _Rows]:
        """Return what stands in a part: without the first operator where that ``entered`` the part before.

        So many operators are ``added`` behind, one after the other, in the last kernel.
        """
        found = self._of_parts.get((entered, added))
        if found is None:
            wiring, kernels = self._known[0]
            if entered:
                wiring = [tuple([source - 1 for source in sources]) for sources in wiring[1:]]
                kernels = [tuple([i - 1 for i in kernel]) for kernel in kernels]
            more = range(len(wiring), len(wiring) + added)
            found = (*wiring, *[(i,) for i in more]), (*kernels[:-1], (*kernels[-1], *more))
            if len(self._of_parts) < REMEMBERED_OFFSETS:
                self._of_parts[entered, added] = found
        return found


@final
class _Table:
    """Rows of numbers, most of one or two."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._pairs = tuple([(row[0], row[1] if len(row) == 2 else -1) for row in rows if 1 <= len(row) <= 2])
        self._most = max([number for row in rows for number in row], default=0)

    def shifted(self, offset: int) -> Rows:
        if len(self._pairs) == len(self._rows) and self._most + offset < len(_ONES):
            return tuple([_ONES[a + offset] if b < 0 else (a + offset, b + offset) for a, b in self._pairs])
        return tuple([tuple([number + offset for number in row]) for row in self._rows])


@final
class _Plan:
    """What is the same in modules of equal kinds, wiring and proportions.

    It is found of operators as they were placed, and of the ``sizes`` of all values, divided by what divides them all.
    """

    def __init__(
        self, ops: Sequence[Op], kinds: Sequence[str], wiring: Rows, output: int, sizes: Sequence[int], folds: bool
    ) -> None:
        self.kept, self.wiring, output = survivors(kinds, wiring, output, folds=folds)
        self.outputs = outputs = (output,)
        self.ops = [ops[i] for i in self.kept]
        self.sizes = [sizes[0], *[sizes[i + 1] for i in self.kept]]
        readers = [i for i, sources in enumerate(self.wiring) for source in sources if source == 0]
        self._entry = readers[0] if len(readers) == 1 else -1
        self.entry_folds = self._entry >= 0 and self.ops[self._entry].kind in FOLDS
        self.segments = cut(1, self.ops, self.wiring, outputs)
        self.may_be_cut = all(self.wiring)  # a graph with an operator that reads nothing is one segment
        self.same_everywhere = not folds and not self.entry_folds
        self._links: dict[str, Link | None] = {}

    def after(self, maker: Op | None) -> Link | None:
        """Return how the module runs after an operator (``None``: on the graph's input), ``None`` if it cannot tell."""
        if maker is None or self._entry < 0:
            return self._alone
        if maker.kind not in self._links:
            joins = may_fuse(maker.kind, self.ops[self._entry].kind)
            self._links[maker.kind] = self._joined(maker) if joins else self._alone
        return self._links[maker.kind]

    @cached_property
    def _alone(self) -> Link:
        return self._link((), find_kernels(self.ops, self.wiring, self.outputs))

    def _joined(self, maker: Op) -> Link | None:
        wiring = [(0,) * len(maker.inputs), *(tuple([source + 1 for source in sources]) for sources in self.wiring)]
        kernels = find_kernels([maker, *self.ops], wiring, (self.outputs[0] + 1,))
        (joined,) = (kernel for kernel in kernels if 0 in kernel)
        if joined == (0,):
            return self._alone
        if joined != kernels[0] or not _BORDERS_ARE_PAIRS:
            return None
        entry, *others = (tuple([i - 1 for i in kernel if i]) for kernel in kernels)
        return self._link(entry, tuple(others))

    def _link(self, entry: tuple[int, ...], kernels: tuple[tuple[int, ...], ...]) -> Link:
        if not self.ops:
            return Link((), 0, Stencil((), ()), 0, 0, 0, 0)
        sizes = [0, *self.sizes[1:]] if entry else self.sizes  # what enters stays inside the joined kernel
        steps = alive_bytes(sizes, self.wiring, self.outputs[0], (entry, *kernels) if entry else kernels)
        first, rest = (steps[0][1], steps[1:]) if entry else (0, steps)
        held, last = rest[-1] if rest else (0, first)
        inner = max([most for _, most in rest[:-1]], default=0)
        return Link(entry, len(kernels), Stencil(self.wiring, kernels), first, inner, held, last)


@final
@dataclass(slots=True, eq=False)  # a value, but frozen it takes three times as long to make, for every new cell
class Module:
    """A part of a network over one input of one type: operators, wiring (0 is the input), and what they add up to.

    ``segments`` are digests; ``retypes`` says that the same operators may stand on a value of another type.
    """

    ops: tuple[Op, ...]
    input_type: TensorType
    output_type: TensorType
    unit_bytes: int
    plan: _Plan
    forms: tuple[Form, ...]
    segments: bytes
    totals: Totals
    retypes: bool
    part: Part | None = None
    """The module as a part, where it shares no kernel with others; kept once somebody has made it."""

    @classmethod
    def of(cls, types: Sequence[TensorType], ops: Sequence[Op], wiring: Rows, output: int, *, folds: bool) -> Module:
        """Return the module that makes ``output`` of operators placed one by one, each of one output.

        ``types`` are those of the input and of what each operator makes. ``folds`` says that what makes the input takes
        constants that alone read it into its weights.
        """
        kinds = tuple([op.kind for op in ops])
        sizes = [t.size_bytes for t in types]
        for i, kind in enumerate(kinds):
            if kind == "constant":
                sizes[i + 1] = 0
        unit = math.gcd(*sizes)
        plan = _plan(ops, kinds, tuple(wiring), output, tuple([size // unit for size in sizes]), folds)
        kept = tuple([ops[i] for i in plan.kept])
        forms = tuple([segment.form(kept) for segment in plan.segments])
        return cls(
            kept,
            types[0],
            kept[-1].outputs[0] if kept else types[0],
            unit,
            plan,
            forms,
            b"".join([form.name(kept) for form in forms]),
            Totals.of(kept),
            types.count(types[0]) == len(types) and all(form.by_family for form in forms),
        )

    def retyped(self, new: TensorType) -> Module:
        """Return the same operators on a value of another type, where all that they read and make is of one type."""
        known = _retyped(new)
        ops = tuple([(known.get(id(op)) or _retype(op, new))[1] for op in self.ops])
        segments = b"".join([form.name(ops) for form in self.forms])
        return Module(ops, new, new, new.size_bytes, self.plan, self.forms, segments, Totals.of(ops), True)


def _retype(op: Op, new: TensorType) -> tuple[Op, Op]:
    """Return an operator, and as it is where all that it reads and makes is of a type; remember both."""
    known = _retyped(new)
    if len(known) >= REMEMBERED:
        known.clear()
    made = known[id(op)] = op, make_operator(op.kind, (new,) * len(op.inputs), (new,), op.attributes)
    return made


@functools.lru_cache(maxsize=256)
def _retyped(_new: TensorType) -> dict[int, tuple[Op, Op]]:
    """Return where operators on values of a type are kept, each by where its like is in memory, which is kept too."""
    return {}


def _plan(
    ops: Sequence[Op], kinds: tuple[str, ...], wiring: Rows, output: int, sizes: tuple[int, ...], folds: bool
) -> _Plan:
    """Return the plan of what a function placed; it follows from all but ``ops``, which are of these kinds."""
    key = kinds, wiring, output, sizes, folds
    found = _PLANS.get(key)
    if found is None:
        if len(_PLANS) >= REMEMBERED // 2:
            _PLANS.clear()
        found = _PLANS[key] = _Plan(ops, kinds, wiring, output, sizes, folds)
    return found


_PLANS: Final[dict[tuple[object, ...], _Plan]] = {}
