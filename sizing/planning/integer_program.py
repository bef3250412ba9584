"""A mixed-integer linear program built row by row, solved by HiGHS through ``scipy.optimize.milp``.

HiGHS: Huangfu and Hall, Parallelizing the dual revised simplex method, 2018, arXiv 1503.01889.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sizing.errors import SizingError

__all__ = ["EXACT", "Effort", "IntegerProgram", "Solution"]

#: Answers of ``milp`` by status.
_INFEASIBLE, _UNBOUNDED = 2, 3


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to look: to within ``relative_gap`` of the best bound, and for ``work`` nodes times variables at most.

    Counted in nodes, not in seconds, so that the answer is the same on every machine. ``work`` None: to the end.
    """

    relative_gap: float = 0.0
    work: int | None = None


EXACT = Effort()


@dataclass(frozen=True, slots=True)
class Solution:
    """Variables, and how far they may be above the minimum, as a share of it.

    ``values`` None: with gap 0 no values satisfy the rows; with an infinite gap none were found in time.
    """

    values: tuple[float, ...] | None
    gap: float


class IntegerProgram:
    """Variables with bounds, rows with bounds; minimises a linear objective that is given with each solve."""

    def __init__(self) -> None:
        self._upper: list[float] = []
        self._integer: list[bool] = []
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._values: list[float] = []
        self._row_lower: list[float] = []
        self._row_upper: list[float] = []

    @property
    def variables(self) -> int:
        """How many variables there are."""
        return len(self._upper)

    def variable(self, upper: float = math.inf, *, integer: bool = False) -> int:
        """Add a variable of at least 0 and return its index."""
        self._upper.append(upper)
        self._integer.append(integer)
        return len(self._upper) - 1

    def row(self, terms: Mapping[int, float], lower: float = -math.inf, upper: float = math.inf) -> None:
        """Add ``lower`` ≤ Σ coefficient · variable ≤ ``upper``."""
        number = len(self._row_lower)
        for column, value in terms.items():
            self._rows.append(number)
            self._columns.append(column)
            self._values.append(value)
        self._row_lower.append(lower)
        self._row_upper.append(upper)

    def minimise(self, objective: Mapping[int, float], effort: Effort = EXACT) -> Solution:
        """Return the variables at the minimum, or as near to it as ``effort`` asks for.

        Raises:
            SizingError: the solver failed.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        count = len(self._upper)
        if not count:
            return Solution((), 0.0)
        costs = np.zeros(count)
        for column, value in objective.items():
            costs[column] += value
        constraints = []
        if self._row_lower:
            matrix = csr_array((self._values, (self._rows, self._columns)), shape=(len(self._row_lower), count))
            constraints.append(LinearConstraint(matrix, self._row_lower, self._row_upper))
        options: dict[str, float] = {"mip_rel_gap": effort.relative_gap}
        if effort.work is not None:
            options["node_limit"] = max(effort.work // count, 1)
        found = milp(
            costs,
            integrality=np.array(self._integer, dtype=int),
            bounds=Bounds(np.zeros(count), self._upper),
            constraints=constraints,
            options=options,
        )
        if found.status == _INFEASIBLE:
            return Solution(None, 0.0)
        if found.status != 0 and (effort.work is None or found.status == _UNBOUNDED):
            raise SizingError(f"the solver found no plan: {found.message}")
        # Without an answer before the limit there is no gap either.
        gap = math.inf if found.mip_gap is None else max(float(found.mip_gap), 0.0)
        return Solution(None if found.x is None else tuple(float(value) for value in found.x), gap)
