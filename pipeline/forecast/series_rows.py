"""The horizons of several series one below another, so that one call of NumPy serves all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Ints, SeriesContext

__all__ = ["SeriesRows"]


@lru_cache(maxsize=64)
def _layout(steps: tuple[int, ...], series: int) -> tuple[Ints, Ints]:
    """The horizons of every row, and the last row of each series: the same arrays for all pools, never changed."""
    return np.tile(np.array(steps, dtype=np.int64), series), np.arange(1, series + 1) * len(steps) - 1


class SeriesRows:
    """Rows of arrays: row ``s * horizons + h`` is horizon ``h`` of series ``s``.

    What is computed in such rows never mixes them, so a series comes to the same numbers whatever stands beside it.

    Args:
        contexts: the series, at least one; all with the same horizons, season and grain.

    Raises:
        ValueError: there are none, or they do not fit together.
    """

    def __init__(self, contexts: Sequence[SeriesContext]) -> None:
        self.contexts = tuple(contexts)
        if len({(tuple(c.steps.tolist()), c.season_steps, c.grain_seconds) for c in self.contexts}) != 1:
            raise ValueError("series that are stepped together need one set of horizons, one season and one grain")
        first = self.contexts[0]
        self.season_steps = first.season_steps
        self.horizons = first.steps.size
        #: Horizons in windows, of every row; and the row of the longest horizon of each series.
        self.steps, self.longest = _layout(tuple(first.steps.tolist()), len(self.contexts))

    def __reduce__(self) -> tuple[type[SeriesRows], tuple[tuple[SeriesContext, ...]]]:
        """Everything follows from the contexts."""
        return SeriesRows, (self.contexts,)

    def of(self, series: int) -> slice:
        """The rows of one series."""
        return slice(series * self.horizons, (series + 1) * self.horizons)

    def only(self, series: int) -> SeriesRows:
        """The rows of one series, alone."""
        return SeriesRows((self.contexts[series],))

    def repeat(self, values: Sequence[float], dtype: Any = np.float64) -> Any:
        """One value per series, repeated for its rows, shape ``(rows,)``."""
        return np.array(values, dtype=dtype).repeat(self.horizons)

    def any(self, flags: NDArray[np.bool_]) -> list[bool]:
        """Whether any row of each series has its flag set."""
        if 0 not in flags.tobytes():  # of a few flags, their bytes answer sooner than a reduction
            return [True] * len(self.contexts)
        found: list[bool] = np.logical_or.reduce(flags.reshape(-1, self.horizons), axis=1).tolist()
        return found

    def tiny(self) -> Any:
        """What the units of losses are never smaller than, of every row."""
        return self.repeat([TINY + 1e-9 * context.last for context in self.contexts], np.float32)

    def floor(self, dtype: Any = np.float64) -> Any:
        """A hundredth of each series' level, per row: what units and scales are never smaller than."""
        return self.repeat([0.01 * context.level for context in self.contexts], dtype)
