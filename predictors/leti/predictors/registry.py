"""Registry: the kinds of predictor by name, the simplest first. A predictor's module is imported when it is asked for.

To add one, write a class that keeps the promise of :class:`~leti.core.prediction.Predictor`, enter it in the table
below or among the entry points of a package of your own, and run the conformance suite: it takes every kind from here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast, final

from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.core.plugins import PluginGroup
from leti.core.prediction import Predictor


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """Where a predictor's class is, the modules that it needs, and the extra that brings them.

    A ``costly`` kind takes minutes to train on a thousand networks: it is trained where it is asked for by name. One
    that ``needs_sources`` learns from predictors of other platforms: it is loaded like any other, trained with those.
    ``trains_with`` are modules that training needs beside ``needs``, and serving does not.
    """

    module: str
    name: str
    needs: tuple[str, ...]
    extra: str = "boosting"
    costly: bool = False
    trains_with: tuple[str, ...] = ()
    needs_sources: bool = False


_GCN = ("numpy", "scipy", "onnx", "onnxruntime", "safetensors")
_TRAINS_GCN = ("torch", "torch_geometric")

PREDICTORS: Mapping[str, Entry] = MappingProxyType(
    {
        "flops": Entry("leti.predictors.flops", "FlopsPredictor", ("numpy", "sklearn")),
        "flops_by_memory": Entry("leti.predictors.flops", "FlopsByMemoryPredictor", ("numpy", "sklearn")),
        "linear": Entry("leti.predictors.linear", "LinearPredictor", ("numpy", "scipy")),
        "positional": Entry("leti.predictors.positional", "PositionalPredictor", ("numpy", "scipy")),
        "lookup_table": Entry("leti.predictors.lookup.predictor", "LookupTablePredictor", ("numpy", "scipy")),
        "kernel_sum": Entry(
            "leti.predictors.kernel_sum.predictor", "KernelSumPredictor", ("numpy", "scipy", "sklearn")
        ),
        "xgboost": Entry("leti.predictors.boosting.predictors", "XGBoostPredictor", ("numpy", "scipy", "xgboost")),
        "lightgbm": Entry("leti.predictors.boosting.predictors", "LightGBMPredictor", ("numpy", "scipy", "lightgbm")),
        "catboost": Entry(
            "leti.predictors.boosting.predictors", "CatBoostPredictor", ("numpy", "scipy", "catboost"), "catboost"
        ),
        "gcn_plain": Entry("leti.predictors.gcn.predictors", "PlainGraphPredictor", _GCN, "gcn", True, _TRAINS_GCN),
        "brp_nas": Entry("leti.predictors.gcn.predictors", "BrpNasPredictor", _GCN, "gcn", True, _TRAINS_GCN),
        "gcn_shared": Entry("leti.predictors.gcn.together", "SharedGraphPredictor", _GCN, "gcn", True, _TRAINS_GCN),
        "gcn": Entry("leti.predictors.gcn.predictors", "PricedGraphPredictor", _GCN, "gcn", True, _TRAINS_GCN),
        "stacked": Entry("leti.predictors.stacking.predictor", "StackedPredictor", ("numpy", "scipy", "sklearn")),
        "adapted": Entry(
            "leti.predictors.adaptation.predictor", "AdaptedPredictor", ("numpy", "scipy"), needs_sources=True
        ),
    }
)
"""Every kind of predictor that is built in, the simplest first."""

MIX = "stacked"
"""The kind that mixes what others predict."""

PLUGINS = PluginGroup("leti.predictors", Predictor, builtin=tuple(PREDICTORS), named_by="kind")
"""Predictors of other packages."""


def kinds(*, sources: bool = False) -> tuple[str, ...]:
    """Return the kinds whose dependencies are installed, the simplest first; then those of plugins, not yet loaded.

    Those that learn from predictors of other platforms are among them where there are ``sources``.
    """
    built_in = (
        kind
        for kind, entry in PREDICTORS.items()
        if (sources or not entry.needs_sources)
        and all(importlib.util.find_spec(name) for name in (*entry.needs, *entry.trains_with))
    )
    return (*built_in, *PLUGINS.names())


def default_kinds(*, sources: bool = False) -> tuple[str, ...]:
    """Return the :func:`kinds` that are trained where none are named: all but the costly."""
    return tuple(kind for kind in kinds(sources=sources) if kind not in PREDICTORS or not PREDICTORS[kind].costly)


def known_kinds() -> tuple[str, ...]:
    """Return every kind that has a class, whether or not what it needs is installed."""
    return (*PREDICTORS, *PLUGINS.names())


def predictor_class(kind: str) -> type[Predictor]:
    """Return the class of a kind.

    Raises :class:`~leti.core.errors.InvalidInput` listing the kinds for an unknown one, and
    :class:`~leti.core.errors.MissingExtra` where it cannot be imported.
    """
    if kind in PLUGINS.names():
        return PLUGINS.load(kind)
    entry = PREDICTORS.get(kind)
    if entry is None:
        raise InvalidInput(
            f"there is no predictor of kind {str(kind)[:80]!r}",
            field="kind",
            remedy=f"one of {', '.join(known_kinds())}",
        )
    with needs(entry.extra):
        for name in entry.needs:
            importlib.import_module(name)
        module = importlib.import_module(entry.module)
    return cast("type[Predictor]", getattr(module, entry.name))


def create(kind: str) -> Predictor:
    """Return a new predictor of a kind, not yet trained; errors as in :func:`predictor_class`."""
    return predictor_class(kind)()
