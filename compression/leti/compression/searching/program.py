"""Exact plans where many groups are neighbours of many: a mixed-integer program.

It has a variable for each two candidates of neighbours, tied to both by its sums over either (Sherali and Adams, 1990),
and is solved by HiGHS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from leti.compression.searching.candidates import Measure, Problem, Vector
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
    import numpy as np
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

_TIMED_OUT: Final = 1  # HiGHS's status as scipy has it
_INFEASIBLE: Final = 2


@final
class Program:
    """A mixed-integer program: a binary a candidate, and a share of each two candidates of neighbours."""

    def __init__(self, problem: Problem, measure: Measure, time_limit_s: float) -> None:
        self._problem, self._measure, self._time_limit_s = problem, measure, time_limit_s
        self._sizes = [len(group.patches) for group in problem.groups]
        self._starts = np.cumsum([0, *self._sizes])
        binaries = int(self._starts[-1])
        costs = [group.costs.by(measure) for group in problem.groups]
        costs += [pair.costs.by(measure).reshape(-1) for pair in problem.pairs]
        self._costs = np.concatenate(costs)
        self._fixed = float(problem.fixed.by(measure))
        harm = np.concatenate([group.sensitivity for group in problem.groups])
        self._harm = np.concatenate([harm, np.zeros(len(self._costs) - binaries)])
        self._is_whole = np.arange(len(self._costs)) < binaries
        rows = [sparse.block_diag([np.ones((1, size)) for size in self._sizes])]
        tied = sparse.hstack([rows[0], sparse.csr_array((len(self._sizes), len(self._costs) - binaries))])
        self._ties: list[Any] = [LinearConstraint(tied, 1, 1)]
        start = binaries
        for pair in problem.pairs:
            shares = self._sizes[pair.first], self._sizes[pair.second]
            over_second = sparse.kron(sparse.eye_array(shares[0]), np.ones((1, shares[1])))
            over_first = sparse.kron(np.ones((1, shares[0])), sparse.eye_array(shares[1]))
            for number, sums in ((pair.first, over_second), (pair.second, over_first)):
                parts = sparse.coo_array(sums)
                own = sparse.eye_array(self._sizes[number]).tocoo()
                row = np.concatenate([parts.row, own.row])
                column = np.concatenate([parts.col + start, own.col + self._starts[number]])
                value = np.concatenate([parts.data, -own.data])
                matrix = sparse.csr_array((value, (row, column)), shape=(self._sizes[number], len(self._costs)))
                self._ties.append(LinearConstraint(matrix, 0, 0))
            start += shares[0] * shares[1]

    def cheapest(self) -> tuple[int, ...]:
        """Return the candidates of least cost."""
        choices, _ = self._run(self._costs, [])
        if choices is None:
            raise InvalidInput("the least cost was not found in time", field="time_limit_s", remedy="give more time")
        return choices

    def solve(self, limit: float) -> tuple[tuple[int, ...] | None, bool]:
        """Return the candidates of least harm that cost no more than a limit, and whether that is certain.

        HiGHS keeps limits to a millionth or so: where it has not, it is asked for a bit less.
        """
        choices, is_exact = None, True
        for margin in (0.0, 2e-6):
            within = LinearConstraint(self._costs[None] / limit, -np.inf, 1 - margin - self._fixed / limit)
            choices, is_exact = self._run(self._harm, [within])
            if choices is None or self._cost(choices) <= limit:
                break
        return choices, is_exact

    def _cost(self, choices: Sequence[int]) -> float:
        return self._problem.plan(choices).by(self._measure)

    def _run(self, aim: Vector, more: list[Any]) -> tuple[tuple[int, ...] | None, bool]:
        scale = float(np.abs(aim).max()) or 1.0  # tolerances of HiGHS are absolute
        found = milp(
            aim / scale,
            constraints=[*self._ties, *more],
            integrality=self._is_whole,
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "time_limit": self._time_limit_s},
        )
        if found.x is None:
            return None, found.status == _INFEASIBLE
        choices = tuple(
            int(np.argmax(found.x[start : start + size]))
            for start, size in zip(self._starts[:-1], self._sizes, strict=True)
        )
        return choices, found.status != _TIMED_OUT
