"""Predictors on tables that others published: python benchmarks/public_tables.py FOLDER [--seeds 3] [--out FILE.json].

FOLDER holds ``hwnasbench360_pi5.csv.gz`` and ``latbench_i7_7820x_fp32.csv.gz``. Each protocol is a call of
``leti evaluate`` with 1,000 networks to train on, the rest to test; the table gives the mean over the seeds. What
``none`` meant to the exporter is chosen by cross-validation inside the training part of each seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PI5 = ("hwnasbench360_pi5.csv.gz", "--latency-column", "lat_ms_median")
CIFAR = ("--config", '{"classes": 100}')
NINAPRO = ("--config", '{"input_shape": [52, 16, 1], "classes": 18}')


def _pi5(framework: str, task: str, config: tuple[str, str]) -> tuple[str, ...]:
    return (*PI5, "--where", f"framework={framework}", "--where", f"task={task}", *config)


PROTOCOLS = {
    "A. Pi 5, LiteRT, cifar100": _pi5("litert", "cifar100", CIFAR),
    "A. Pi 5, LiteRT, ninapro": _pi5("litert", "ninapro", NINAPRO),
    "A. Pi 5, TorchMobile, cifar100": _pi5("torchmobile", "cifar100", CIFAR),
    "A. Pi 5, TorchMobile, ninapro": _pi5("torchmobile", "ninapro", NINAPRO),
    "C. LatBench, i7-7820X, TensorFlow": (
        "latbench_i7_7820x_fp32.csv.gz", "--latency-column", "latency_ms", "--one-per-class",
    ),
}  # fmt: skip
SHARES = ("within_1", "within_5", "within_10", "mdape", "interval_coverage")


def _evaluate(folder: Path, arguments: tuple[str, ...], seed: int) -> dict[str, Any]:
    table, *rest = arguments
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [sys.executable, "-m", "leti.cli", "evaluate", "--table", str(folder / table), *rest]
        command += ["--train", "1000", "--seed", str(seed), "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def _row(protocol: str, kind: str, runs: list[dict[str, Any]]) -> str:
    metrics = [run["predictors"][kind] for run in runs]

    def mean(name: str) -> float:
        return statistics.fmean(m[name] for m in metrics)

    cells = [f"{100 * mean(name):.2f}" if name == "mdape" else f"{100 * mean(name):.1f}" for name in SHARES]
    cells += [
        f"{mean('r2'):.3f}",
        f"{mean('spearman'):.3f}",
        f"{mean('fit_s'):.1f}",
        f"{mean('us_per_prediction'):.0f}",
    ]
    meanings = "/".join(sorted({run["zero"] for run in runs}))
    return f"| {protocol} | {meanings} | {metrics[0]['n_test']} | {kind} | {' | '.join(cells)} |"


def main() -> None:
    """Run every protocol with every seed, print a Markdown table, and write the runs where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print(
        "| table | none | n test | predictor | ±1 % | ±5 % | ±10 % | MdAPE % | in 90 % | R² | Spearman | fit s | µs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    everything = {}
    for protocol, given in PROTOCOLS.items():
        runs = [_evaluate(arguments.folder, given, seed) for seed in range(arguments.seeds)]
        everything[protocol] = runs
        for kind in runs[0]["predictors"]:
            print(_row(protocol, kind, runs), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
