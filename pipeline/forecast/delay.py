"""Holds what was issued until it matures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER", "DelayRing"]

#: The number of a window that no series has.
NEVER = -(2**62)


class DelayRing:
    """For each horizon the rows of the last ``h`` issues, recognised by their number, so that gaps need no clearing.

    Args:
        steps: horizons in windows, shape ``(horizons,)``.
        width: numbers per row.
    """

    def __init__(self, steps: NDArray[np.int64], width: int) -> None:
        self._steps = steps
        self._base = np.concatenate(([0], np.cumsum(steps)[:-1]))
        total = int(steps.sum())
        self._rows: NDArray[np.float32] = np.zeros((total, width), dtype=np.float32)
        self._issued = np.full(total, NEVER, dtype=np.int64)

    def take(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The rows issued for window ``index``, shape ``(horizons, width)``, and whether each exists."""
        at = self._base + index % self._steps
        return self._rows[at].astype(np.float64), self._issued[at] == index - self._steps

    def put(self, index: int, rows: NDArray[np.float64]) -> None:
        """Keep the ``rows`` issued at window ``index``; call after ``take(index)``."""
        at = self._base + index % self._steps
        self._rows[at] = rows
        self._issued[at] = index
