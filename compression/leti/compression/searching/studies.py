"""Studies of Optuna's, for what searches by it."""

from __future__ import annotations

from collections.abc import Sequence

from leti.core.extras import needs

with needs("compression"):
    import optuna


def new_study(sampler: optuna.samplers.BaseSampler, directions: Sequence[str] = ("minimize",)) -> optuna.Study:
    """Return a study of Optuna's in memory, without the line that it logs when it is made."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(sampler=sampler, directions=list(directions))
    finally:
        optuna.logging.set_verbosity(before)
