"""Search NAS-Bench-201 with Optuna for cells that score high and run fast: python optuna_search.py [URL] [TRIALS].

NSGA-II proposes a whole generation by ask and tell, the service answers it in one request. The score is made up, a
number for each operation, where a search would have its accuracies. Needs: pip install optuna.
"""

import os
import sys

import optuna

from leti.client import LatencyClient
from leti.core.queries import Encodings, PredictionRequest

GENERATION = 50
EDGES, OPERATIONS = 6, 5


def made_up_score(cell: tuple[int, ...]) -> float:
    """Return a score that convolutions raise, most where they come late."""
    worth = (0.0, 0.3, 0.7, 1.0, 0.4)
    return sum(worth[operation] * (1 + 0.1 * edge) for edge, operation in enumerate(cell))


def main(url: str, trials: int) -> None:
    """Print the Pareto front of latency and score."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=GENERATION, seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    choices = {f"edge {edge}": optuna.distributions.CategoricalDistribution(range(OPERATIONS)) for edge in range(EDGES)}
    with LatencyClient(url, token=os.environ.get("LETI_TOKEN")) as client:
        platform_id = client.platforms()[0].id
        for _ in range(0, trials, GENERATION):
            asked = [study.ask(choices) for _ in range(GENERATION)]
            cells = tuple(tuple(trial.params[name] for name in choices) for trial in asked)
            request = PredictionRequest((platform_id,), encodings=Encodings("nasbench201", cells))
            (answer,) = client.predict_columns(request).platforms
            for trial, cell, latency_ms in zip(asked, cells, answer.latency_ms, strict=True):
                if latency_ms is None:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                else:
                    study.tell(trial, (latency_ms, made_up_score(cell)))
    print(f"{len(study.best_trials)} of {len(study.trials)} cells are on the front of {platform_id}")
    for latency_ms, score in sorted({(trial.values[0], trial.values[1]) for trial in study.best_trials}):
        print(f"{latency_ms:8.3f} ms  score {score:.2f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000", int((sys.argv[2:] or ["500"])[0]))
