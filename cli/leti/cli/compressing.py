"""What ``leti compress`` and its demo share: this machine as a target, bars for the steps, what is shown and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from leti.cli.report import new_bars, new_table
from leti.core.codec import to_json
from leti.core.device import ModelPrecision

if TYPE_CHECKING:
    from leti.compression.results import Compression
    from leti.compression.targets import Target
    from leti.device_agents.bench import Bench
    from leti.generator.importers import Imported

REPORT: Final = "report.html"

_STEPS: Final = {
    "baseline": "the network as it is",
    "precision": "precision alone",
    "prices": "measuring kernels",
    "sensitivity": "what changes harm",
    "plans": "solving",
    "measuring": "measuring plans",
    "training": "training",
    "export": "measuring what was made",
}
"""What the steps of a compression are called beside their bars."""

_SHOWN: Final = (
    "network", "budget kept", "MACs cut", "predicted, ms (upper bound)", "measured, ms", "speed-up (90 % interval)",
    "accuracy",
)  # fmt: skip
"""The columns of a report's table of networks that a terminal has room for."""


def at_hand(network: Imported, bench: Bench) -> Target:
    """Return this machine as a target: kernels are measured alone, then plans as a whole, beside the network."""
    from leti.compression.measuring.at_hand import BenchMeter
    from leti.compression.targets import measured_target

    known = precisions(has_int8=bench.platform.model_format == "tflite")
    return measured_target(bench.platform, known, BenchMeter(bench), network.graph)


def precisions(*, has_int8: bool) -> tuple[ModelPrecision, ...]:
    """Return the precisions that networks may be compressed to."""
    return ("float32", "full_integer") if has_int8 else ("float32",)


def compressed(
    console: Console, network: Imported, target: Target, out: Path, *, epochs: int, seed: int, **asked: Any
) -> Compression:
    """Return what a compression finds, with bars as it goes; result and models are then in ``out``."""
    from leti.compression.compressor import compress as run
    from leti.compression.training.fine_tuning import Recipe

    recipe = Recipe(epochs=epochs, seed=seed)
    with new_bars(console) as bars:
        steps = _Steps(bars)
        found = run(network, platform=target, out=out, seed=seed, recipe=recipe, progress=steps.tell, **asked)
        steps.finish()
    return found


def report(found: Compression, out: Path, name: str, seed: int) -> None:
    """Write the report of a compression of a network of that name."""
    from leti.compression.reporting.page import write_report

    write_report(found, out / REPORT, network=name, seed=seed)


def summary(found: Compression, out: Path) -> dict[str, Any]:
    """Return what a program is told of a compression: all of it but the models, and where its files are."""
    said = to_json(found)
    said["models"] = {kind: str(out / f"model.{kind}") for kind in found.models}
    return {**said, "report": str(out / REPORT)}


def show(console: Console, found: Compression, out: Path) -> None:
    """Print the verdict, the network beside its rivals, and where the report and the models are."""
    from leti.compression.reporting import tables, words

    console.print(rich_table(tables.networks(found), _SHOWN))
    console.print(words.verdict(found), highlight=False)
    if found.best is not None:
        console.print(f"accuracy: {words.accuracies(found)}", highlight=False)
    for path in (out / REPORT, *(out / f"model.{kind}" for kind in found.models)):
        console.print(f"written:  {path}", soft_wrap=True, highlight=False)


def rich_table(table: Any, columns: Sequence[str] = ()) -> Table:
    """Return a table of a report as the terminal shows it, whole or only these columns of it."""
    made = new_table(table.caption)
    chosen = [i for i, name in enumerate(table.columns) if not columns or name in columns]
    for i in chosen:
        made.add_column(table.columns[i], justify="right" if table.numeric[i] else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*(row[i] for i in chosen))
    return made


@final
class _Steps:
    """A bar for each step of a compression."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def tell(self, step: str, done: int, total: int) -> None:
        """Show how much of a step is done."""
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(_STEPS.get(step, step), total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)

    def finish(self) -> None:
        """Show that nothing is left to do: a step may end before all that it might have done."""
        for task in self._tasks.values():
            self._bars.update(task, total=1, completed=1)
