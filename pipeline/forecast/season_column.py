"""Numbers of the places of a cycle, which take memory from when they were seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["SeasonColumn"]

#: By how many places a column grows at least, and by which part of what it has.
_LEAST_GROWTH, _GROWTH_SHARE = 16, 16


class SeasonColumn:
    """One number for every place of a cycle; NaN until it is set.

    Places are set one after another, as time goes. So the column begins at the first one that is set and grows until
    the cycle is whole: a pool that is an hour old does not carry the places of a week.

    Args:
        places: length of the cycle.
        dtype: of the numbers.

    >>> column = SeasonColumn(1440, np.float32)
    >>> column[1439] = 2.0
    >>> column[0] = 3.0
    >>> column.take(np.array([1439, 0, 1])).tolist(), column[1]
    ([2.0, 3.0, nan], nan)
    """

    __slots__ = ("_begin", "_numbers", "_size")

    def __init__(self, places: int, dtype: DTypeLike) -> None:
        self._size = places
        self._begin = 0
        # From ``_begin`` on; the last one is NaN and stands for all places that have not come yet.
        self._numbers: NDArray[Any] = np.full(1, np.nan, dtype=dtype)

    def __getitem__(self, place: int) -> float:
        """The number of a place, from 0 on."""
        at = (place - self._begin) % self._size
        numbers = self._numbers
        return float(numbers[at if at < numbers.size else -1])

    def __setitem__(self, place: int, number: float) -> None:
        """Set the number of a place."""
        used = self._numbers.size - 1
        if not used:
            self._begin = place
        at = (place - self._begin) % self._size
        if at >= used:
            self._grow(at + 1)
        self._numbers[at] = number

    def _grow(self, least: int) -> None:
        used = self._numbers.size - 1
        wanted = min(self._size, max(least, used + max(_LEAST_GROWTH, used // _GROWTH_SHARE)))
        grown = np.full(wanted + 1, np.nan, dtype=self._numbers.dtype)
        grown[:used] = self._numbers[:used]
        self._numbers = grown

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The numbers of several places, a copy."""
        found: NDArray[Any] = self._numbers.take((places - self._begin) % self._size, mode="clip")
        return found

    def known(self) -> NDArray[Any]:
        """The finite numbers, in any order."""
        found: NDArray[Any] = self._numbers[np.isfinite(self._numbers)]
        return found
