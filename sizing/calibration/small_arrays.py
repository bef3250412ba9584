"""Statistics of arrays of a few dozen numbers, without what NumPy's functions for them import and check first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["column_ranges", "median"]


def median(values: NDArray[np.float64]) -> float:
    """Return the median of at least one number, none of them NaN.

    >>> median(np.array([3.0, 1.0, 2.0])), median(np.array([4.0, 1.0]))
    (2.0, 2.5)
    """
    ordered, middle = np.sort(values).tolist(), values.size // 2
    return float(ordered[middle] if values.size % 2 else (ordered[middle - 1] + ordered[middle]) / 2.0)


def column_ranges(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest less the smallest number of every column of at least one row."""
    found: NDArray[np.float64] = np.maximum.reduce(rows, axis=0) - np.minimum.reduce(rows, axis=0)
    return found
