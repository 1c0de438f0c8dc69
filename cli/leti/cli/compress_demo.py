"""``leti compress --demo``: a network learns digits here, and is compressed for this machine under several budgets."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from rich.console import Console
from rich.table import Table

from leti.cli.benches import BenchOptions, open_benches
from leti.cli.compressing import at_hand, compressed, report, rich_table, show, summary
from leti.cli.report import new_bars

if TYPE_CHECKING:
    from leti.compression.results import Compression, Verdict
    from leti.compression.targets import Target
    from leti.compression.training.data import Data
    from leti.generator.importers import Imported

_WIDTHS: Final = ((32, 1), (32, 2), (64, 1), (64, 2), (96, 1), (96, 2))
"""Channels and stride of each convolution of the network that is compressed: 14.6 million multiply-accumulates."""

_EPOCHS, _TUNED = 18, 4
"""Of the network that is compressed, and of what is compressed."""

_BATCH, _RATE = 32, 3e-3


@final
@dataclass(frozen=True, slots=True)
class _Case:
    """A budget, what may be done for it, and what is expected to come of it.

    One without rivals is decided before anything is trained: nothing is spent on training there.
    """

    name: str
    factor: float
    max_drop: float
    methods: tuple[str, ...]
    expected: Verdict
    told: str
    has_rivals: bool = True


_CASES: Final = (
    _Case("int8", 2, 0.01, ("quantize", "prune", "low_rank"), "met by precision", "2x, and int8 is allowed", False),
    _Case("infeasible", 30, 0.01, ("quantize", "low_rank"), "infeasible", "30x, under int8 by low rank alone", False),
    _Case("3x", 3, 0.02, ("prune", "low_rank"), "met", "3x in float32"),
    _Case("2x", 2, 0.01, ("prune", "low_rank"), "met", "2x in float32"),
)
"""The last is what stands in the folder itself."""


def run_demo(console: Console, out: Path, seed: int) -> tuple[bool, dict[str, Any]]:
    """Show a compression search on this machine; return whether all came out as it should, and what did."""
    started_s = time.monotonic()
    data = digits_data(seed)
    network = _trained(console, out, data, seed)
    found: dict[str, Compression] = {}
    with _here(network) as target:
        for case in _CASES:
            console.rule(f"digits, {case.told}")
            made = found[case.name] = _compressed(console, network, target, data, case, out, seed)
            made.save(out / case.name)
            report(made, out / case.name, f"digits, {case.told}", seed)
            show(console, made, out / case.name)
    report(found[_CASES[-1].name], out, f"digits, {_CASES[-1].told}", seed)
    console.print(_overview(found))
    duration_s = time.monotonic() - started_s
    console.print(f"{duration_s:.0f} s; report: {out / 'report.html'}", soft_wrap=True, highlight=False)
    said = {case.name: summary(found[case.name], out / case.name) for case in _CASES}
    return all(found[case.name].verdict == case.expected for case in _CASES), {"duration_s": duration_s, **said}


def _trained(console: Console, out: Path, data: Data, seed: int) -> Imported:
    """Return the network that has learnt digits; it is kept, and an epoch that was done is not done again."""
    from leti.compression.steps.work import NETWORK, Work
    from leti.compression.training.comparing import accuracy
    from leti.compression.training.fine_tuning import Epoch, Recipe, fine_tune

    work = Work(out / "work")
    recipe = Recipe(epochs=_EPOCHS, learning_rate=_RATE, seed=seed)
    with new_bars(console) as bars:
        task = bars.add_task("learning digits", total=_EPOCHS)

        def told(epoch: Epoch) -> None:
            bars.update(task, completed=epoch.done)

        def make() -> Imported:
            checkpoint = out / "work" / "digits.npz"
            return fine_tune(digits_network(seed), data, recipe=recipe, progress=told, checkpoint=checkpoint)

        network = work.kept("training", "digits", recipe, NETWORK, make)
        bars.update(task, completed=_EPOCHS)
    graph = network.graph
    console.print(
        f"a network of {graph.macs / 1e6:.1f} million multiply-accumulates and {graph.params:,} parameters names "
        f"{accuracy(network, data):.1%} of images that it has not seen", soft_wrap=True, highlight=False,
    )  # fmt: skip
    return network


def digits_data(seed: int) -> Data:
    """Return digits whose batches are made once: all that is trained sees the same ones."""
    from leti.compression.training.data import digits

    data = digits(seed=seed, batch=_BATCH)
    train = functools.cache(lambda epoch: list(data.train(epoch)))
    evaluate = functools.cache(lambda: list(data.evaluate()))
    return replace(data, train=train, evaluate=evaluate)


def digits_network(seed: int) -> Imported:
    """Return an untrained network of 14.6 million multiply-accumulates for digits of 32×32."""
    from leti.core.graph import TensorType
    from leti.generator.builder import GraphBuilder
    from leti.generator.importers import Imported
    from leti.generator.weights import random_weights

    builder = GraphBuilder(TensorType((1, 32, 32, 1)))
    value = 0
    for channels, stride in _WIDTHS:
        value = builder.relu(builder.conv(value, channels, 3, stride))
    graph = builder.graph(builder.fully_connected(builder.global_mean(value), 10))
    return Imported(graph, tuple(op.kind for op in graph.ops), random_weights(graph, seed))


@contextmanager
def _here(network: Imported) -> Iterator[Target]:
    """Yield this machine with LiteRT."""
    with open_benches(BenchOptions(backends=("litert",), delegates=("xnnpack",))) as (bench,):
        yield at_hand(network, bench)


def _compressed(
    console: Console, network: Imported, target: Target, data: Data, case: _Case, out: Path, seed: int
) -> Compression:
    from leti.compression.budgets import Speedup

    alone: dict[str, Any] = {} if case.has_rivals else {"rivals": (), "held_out": 0}
    return compressed(
        console, network, target, out, epochs=_TUNED if case.has_rivals else 0, seed=seed, data=data,
        budget=Speedup(case.factor), max_drop=case.max_drop, methods=case.methods, **alone,
    )  # fmt: skip


def _overview(found: dict[str, Compression]) -> Table:
    """Return the speed-ups that were measured of each budget's plans, side by side, with their accuracy."""
    from leti.compression.reporting import tables

    return rich_table(tables.budgets({case.told: found[case.name] for case in _CASES}))
