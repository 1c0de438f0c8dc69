"""Protocols: the published tables that predictors are judged on, what is known of them, and what is wanted.

Data only: shares are 0 … 1. The tables themselves are no part of the project; a folder with them is handed in.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, final

from leti.core.errors import InvalidInput

Split = Literal["isomorphism", "random"]

SHARES = ("within_1", "within_5", "within_10")
"""The shares of networks within ±1, 5 and 10 %, by the names of their fields."""


@final
@dataclass(frozen=True, slots=True)
class Known:
    """A figure that was known before: what predicted, shares within ±1, 5 and 10 %, and R², where they are known."""

    name: str
    within_1: float | None = None
    within_5: float | None = None
    within_10: float | None = None
    r2: float | None = None


@final
@dataclass(frozen=True, slots=True)
class TableProtocol:
    """A table of whole networks and how it is split; ``config`` is a network's config as JSON, empty for the space's.

    ``note`` says what a reader must know of the split; ``curve`` whether the learning curve is drawn on it.
    """

    id: str
    protocol: str
    title: str
    file: str
    latency_column: str
    known: tuple[Known, ...]
    where: tuple[tuple[str, str], ...] = ()
    config: str = ""
    space: str = "nasbench201"
    arch_column: str = "arch"
    split: Split = "isomorphism"
    one_per_class: bool = False
    train: int = 1000
    note: str = ""
    curve: bool = False


@final
@dataclass(frozen=True, slots=True)
class Goal:
    """A wanted figure: of one table, by one metric, on the mean over seeds.

    ``kinds`` are predictors that must each reach it; empty: the one that is served.
    """

    table: str
    metric: str
    known: float | None
    wanted: float
    kinds: tuple[str, ...] = ()


_CIFAR100 = '{"classes": 100}'
_NINAPRO = '{"input_shape": [52, 16, 1], "classes": 18}'


def _pi5(framework: str, task: str, title: str, config: str, *known: Known, curve: bool = False) -> TableProtocol:
    return TableProtocol(
        id=f"A-{framework}-{task}",
        protocol="A",
        title=title,
        file="hwnasbench360_pi5.csv.gz",
        latency_column="lat_ms_median",
        known=known,
        where=(("framework", framework), ("task", task)),
        config=config,
        one_per_class=True,
        note="split by isomorphism class, one cell a class",
        curve=curve,
    )


TABLES: tuple[TableProtocol, ...] = (
    _pi5(
        "litert", "cifar100", "Raspberry Pi 5, LiteRT, CIFAR-100", _CIFAR100,
        Known("FLOPs with RANSAC", within_10=0.875, r2=0.979),
        Known("gradient boosting on pruned cells", within_10=0.968, r2=0.995),
        Known("ridge on counts of operators that run", 0.424, 0.967, 0.999),
        curve=True,
    ),
    _pi5("litert", "ninapro", "Raspberry Pi 5, LiteRT, NinaPro", _NINAPRO),
    _pi5(
        "torchmobile", "cifar100", "Raspberry Pi 5, TorchMobile, CIFAR-100", _CIFAR100,
        Known("FLOPs with RANSAC", within_10=0.386, r2=0.472),
        Known("gradient boosting on pruned cells", within_10=0.966, r2=0.981),
        Known("ridge and boosting on the true graph", 0.834, 0.973, 0.983),
    ),
    _pi5("torchmobile", "ninapro", "Raspberry Pi 5, TorchMobile, NinaPro", _NINAPRO),
    TableProtocol(
        id="B-latbench",
        protocol="B",
        title="LatBench, i7-7820X, TensorFlow, random split",
        file="latbench_i7_7820x_fp32.csv.gz",
        latency_column="latency_ms",
        known=(
            Known("BRP-NAS's GCN, implemented anew", 0.400, 0.843, 0.956, 0.983),
            Known("gradient boosting", within_10=0.905),
        ),
        split="random",
        note="random split, as BRP-NAS's: it leaks isomorphic twins, and exists to reproduce that protocol; its 900 "
        "networks to train on and 100 to validate are one training part here, inside which predictors cross-validate",
    ),
    TableProtocol(
        id="C-latbench",
        protocol="C",
        title="LatBench, i7-7820X, TensorFlow, by isomorphism class",
        file="latbench_i7_7820x_fp32.csv.gz",
        latency_column="latency_ms",
        known=(
            Known("FLOPs with RANSAC", within_10=0.418, r2=0.164),
            Known("gradient boosting", within_10=0.941, r2=0.965),
        ),
        one_per_class=True,
        note="split by isomorphism class, one cell a class",
        curve=True,
    ),
)  # fmt: skip
"""Protocols A, B and C, table by table."""

ADAPTATION, OPERATORS = "D", "E"
"""The protocols that are no tables of whole networks on one device: few samples of a new one; times of operators."""

PROTOCOLS: MappingProxyType[str, str] = MappingProxyType(
    {
        "A": "Raspberry Pi 5, two runtimes, two tasks",
        "B": "LatBench with BRP-NAS's random split",
        "C": "LatBench split by isomorphism class",
        "D": "a new device from few samples",
        "E": "operator times of three phones' GPUs",
    }
)
"""Every protocol by its letter."""

_BOOSTING_AND_GCN = ("xgboost", "lightgbm", "catboost", "gcn")
_PHONES = (("pixel4", 0.18), ("mi8se", 0.49), ("iphonexs", 0.06))


def _goals(table: str, known: tuple[float | None, ...], wanted: tuple[float, ...]) -> tuple[Goal, ...]:
    return tuple(Goal(table, *goal) for goal in zip(SHARES, known, wanted, strict=True))


GOALS: tuple[Goal, ...] = (
    *_goals("A-litert-cifar100", (0.424, 0.967, 0.999), (0.60, 0.985, 0.999)),
    Goal("A-litert-cifar100", "within_10", None, 0.99, _BOOSTING_AND_GCN),
    *_goals("A-torchmobile-cifar100", (0.834, 0.973, 0.983), (0.85, 0.985, 0.993)),
    *_goals("B-latbench", (0.400, 0.843, 0.956), (0.50, 0.90, 0.97)),
    Goal("C-latbench", "within_10", 0.941, 0.97),
    Goal(ADAPTATION, "spearman", 0.932, 0.96),
    *(Goal(f"{OPERATORS}-{phone}", "within_10", known, 0.90) for phone, known in _PHONES),
)
"""The figures to reach, each on the mean over seeds."""

ADAPTATION_SAMPLES = 10
"""The number of samples that the goal of protocol D is for."""

ADAPTATION_SERVED = ("auto", "random", "predicted")
"""The method, the sampling and the kind of sources that the goal is judged on: those of the publication, and the method
that is chosen by the samples themselves."""

ADAPTATION_COUNTS = (5, 10, 20, 30, 50)
"""The numbers of samples of the curve of protocol D."""

ADAPTATION_KNOWN = MappingProxyType(
    {
        "HELP, 10 samples": 0.932,
        "ridge, 900 samples": 0.958,
        "BRP-NAS, 900 samples": 0.789,
        "non-negative mix of nine source ridges, 10 samples": 0.905,
    }
)
"""Mean Spearman of others, on six other devices."""

ADAPTATION_NOTE = (
    "Methods and their settings were tuned on the sources alone, each left out in turn as if it were the target. One "
    "rule was changed after a look at the targets, and checked on the sources: with fewer than eight measurements none "
    "of them is taken for a stray."
)
OPERATORS_NOTE = (
    "Which terms the correction may have (an overhead, the sum, the number of kernels, the size of the model's file) "
    "and its ridge were settled while looking at fits to all 102 networks; which of them it does have is chosen by "
    "leave-one-out inside the 20. The form that was tried first, an overhead and a factor alone, is within ±10 % for "
    "97.7 / 98.9 / 90.6 % on pixel4 / mi8se / iphonexs (20 draws)."
)
"""What a reader must know of how the figures of protocols D and E came to be."""

CURVE_SIZES = (50, 100, 200, 500)
"""Sizes of the training part on the learning curve, beside the protocol's own."""

CURVE_KINDS = ("flops", "linear", "xgboost", "gcn")
"""The predictors on the learning curve, where they are installed."""


def load_part(module: str, asked: str) -> Any:
    """Return a module of the command's that may be missing; raise :class:`InvalidInput` naming what was asked for."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise InvalidInput("is not part of this installation", field=asked) from None


def chosen_protocols(texts: list[str]) -> tuple[str, ...]:
    """Return the letters in options such as ``A``, ``A,C`` or ``all``, in order; raise for others."""
    wanted = [part.strip().upper() for text in texts for part in text.split(",")]
    for letter in wanted:
        if letter != "ALL" and letter not in PROTOCOLS:
            raise InvalidInput(
                f"no protocol {letter!r}", field="--protocol", remedy=f"all, or of {', '.join(PROTOCOLS)}"
            )
    return tuple(letter for letter in PROTOCOLS if "ALL" in wanted or letter in wanted)
