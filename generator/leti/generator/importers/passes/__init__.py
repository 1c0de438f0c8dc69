"""What is done to every draft: constants folded and transposes cancelled; then the standard fusions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from leti.generator.importers.draft import Draft
from leti.generator.importers.passes.constants import fold_constants, fold_small_constants, name_arithmetic
from leti.generator.importers.passes.folding import (
    fold_pads,
    fold_scales,
    merge_scales,
    order_affine,
    respell,
    spell_out_norms,
)
from leti.generator.importers.passes.layout import cancel_transposes
from leti.generator.importers.passes.patterns import recognise
from leti.generator.importers.passes.simplify import drop_identities, merge_equal, remove_dead

__all__ = ["Layout", "fold", "normalise"]

Layout = Literal["free", "inner", "kept"]

_FOLD: tuple[Callable[[Draft], Draft], ...] = (
    fold_constants,
    name_arithmetic,
    drop_identities,
    merge_equal,
    recognise,
    respell,
    spell_out_norms,
    merge_scales,
    order_affine,
    fold_scales,
    fold_pads,
    remove_dead,
)
_MAX_ROUNDS = 20


def normalise(draft: Draft, *, layout: Layout = "free") -> Draft:
    """Return the draft in the one layout of graphs, channels last, without transposes that cancel each other.

    ``layout`` says what may change: "free", for formats that are channels first, inputs and outputs as well, which
    then are channels last; "inner" all but the types of inputs and outputs; "kept" nothing, for files whose transposes
    run as they stand.
    """
    draft = name_arithmetic(fold_small_constants(draft))
    return draft if layout == "kept" else cancel_transposes(draft, borders=layout == "free")


def fold(draft: Draft) -> Draft:
    """Return the draft of what runs: constants in the weights, patterns recognised, identities and dead nodes gone.

    The passes are repeated until none changes anything, so that folding what is folded changes nothing.
    """
    for _ in range(_MAX_ROUNDS):
        before = draft
        for step in _FOLD:
            draft = step(draft)
        if draft.nodes == before.nodes and draft.types == before.types and draft.outputs == before.outputs:
            break
    return draft
