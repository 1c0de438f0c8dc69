"""A small language of forms that a computation may be spelled in, matched from its last operator backwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from leti.core.extras import needs
from leti.core.graph import COMMUTATIVE
from leti.generator.importers.draft import Draft, Node
from leti.generator.importers.passes.rewrite import Rewrite, scalar
from leti.generator.importers.passes.simplify import remove_dead

with needs("export"):
    import numpy as np

TOLERANCE = 1e-3
"""How far, relatively, a number of a file may be from the one that is meant: 0.7071 is one over the root of two."""


@final
@dataclass(frozen=True, slots=True)
class Value:
    """Any value; the same wherever the name stands."""

    name: str = "x"


@final
@dataclass(frozen=True, slots=True)
class Number:
    """A constant of one element: of this value, or of any, kept under this name."""

    is_: float | str


@final
@dataclass(frozen=True, slots=True)
class Known:
    """Any constant; its node is kept under the name."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class Form:
    """An operator of a kind on operands. ``number`` is the only element of its weight, as in :class:`Number`.

    Operands of commutative kinds may stand in any order. The node is kept under ``name``, where there is one.
    """

    kind: str
    operands: tuple[Term, ...]
    number: float | str | None = None
    name: str = ""
    where: Callable[[Node], bool] | None = None


@final
@dataclass(frozen=True, slots=True)
class Either:
    """The first of several forms that fits."""

    terms: tuple[Term, ...]


Term = Value | Number | Known | Form | Either


@final
@dataclass(frozen=True, slots=True)
class Found:
    """What was found: old values, numbers and nodes by name, and the nodes of the form, the last one first."""

    values: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    inner: tuple[Node, ...] = ()


Build = Callable[[Rewrite, Node, Found], bool]
"""Places what the form computes instead of its last node; returns whether it did."""


@final
@dataclass(frozen=True, slots=True)
class Pattern:
    """A form, and what is built where it is found."""

    form: Form
    build: Build


def form(
    kind: str,
    *operands: Term,
    number: float | str | None = None,
    name: str = "",
    where: Callable[[Node], bool] | None = None,
) -> Form:
    """Return a :class:`Form`."""
    return Form(kind, operands, number, name, where)


def either(*terms: Term) -> Either:
    """Return an :class:`Either`."""
    return Either(terms)


def apply(draft: Draft, table: Mapping[str, Sequence[Pattern]]) -> Draft:
    """Return the draft with the patterns of a table, which are listed by the kind of their last operator, built.

    A form counts only where nothing outside of it reads what is computed on the way. Forms that are made of what other
    forms become are found as well.
    """
    while True:
        rewrite = Rewrite(draft)
        changed = False
        for node in draft.nodes:
            if any(_build(rewrite, node, pattern) for pattern in table.get(node.kind, ())):
                changed = True
            else:
                rewrite.keep(node)
        if not changed:
            return draft
        draft = remove_dead(rewrite.finish())


def _build(rewrite: Rewrite, node: Node, pattern: Pattern) -> bool:
    for found in _match(rewrite, pattern.form, node.outputs[0], Found()):
        if _is_private(rewrite, found) and pattern.build(rewrite, node, found):
            return True
    return False


def _is_private(rewrite: Rewrite, found: Found) -> bool:
    own = {node.outputs[0] for node in found.inner}
    for node in found.inner[1:]:
        (value,) = node.outputs
        if rewrite.is_returned(value) or any(own.isdisjoint(r.outputs) for r in rewrite.readers[value]):
            return False
    return True


def _match(rewrite: Rewrite, term: Term, value: int, found: Found) -> Iterator[Found]:
    if isinstance(term, Form):
        yield from _match_form(rewrite, term, value, found)
    elif isinstance(term, Either):
        for option in term.terms:
            yield from _match(rewrite, option, value, found)
    elif isinstance(term, Value):
        if found.values.get(term.name, value) == value:
            yield replace(found, values={**found.values, term.name: value})
    else:
        node = rewrite.maker(value, "constant")
        if node is not None and isinstance(term, Known):
            yield from _keep(found, term.name, node)
        elif node is not None and isinstance(term, Number):
            yield from _match_number(term.is_, node, found)


def _match_form(rewrite: Rewrite, term: Form, value: int, found: Found) -> Iterator[Found]:
    node = rewrite.maker(value, term.kind)
    if node is None or len(node.inputs) != len(term.operands) or len(node.outputs) != 1:
        return
    if term.where is not None and not term.where(node):
        return
    if all(node is not other for other in found.inner):
        found = replace(found, inner=(*found.inner, node))
    numbered = [found] if term.number is None else list(_match_number(term.number, node, found))
    for state in numbered:
        for named in _keep(state, term.name, node):
            yield from _match_operands(rewrite, term.operands, node.inputs, named)
            if term.kind in COMMUTATIVE and len(node.inputs) == 2:
                yield from _match_operands(rewrite, term.operands, node.inputs[::-1], named)


def _match_operands(rewrite: Rewrite, terms: Sequence[Term], values: Sequence[int], found: Found) -> Iterator[Found]:
    if not terms:
        yield found
        return
    for state in _match(rewrite, terms[0], values[0], found):
        yield from _match_operands(rewrite, terms[1:], values[1:], state)


def _match_number(wanted: float | str, node: Node, found: Found) -> Iterator[Found]:
    value = scalar(node.weights[0])
    if value is None:
        return
    if isinstance(wanted, str):
        short = float(str(np.float32(value)))  # 0.001, not its neighbour among the numbers of more bits
        yield replace(found, numbers={**found.numbers, wanted: short})
    elif math.isclose(value, wanted, rel_tol=TOLERANCE):
        yield found


def _keep(found: Found, name: str, node: Node) -> Iterator[Found]:
    if not name:
        yield found
    elif found.nodes.get(name, node) is node:
        yield replace(found, nodes={**found.nodes, name: node})
