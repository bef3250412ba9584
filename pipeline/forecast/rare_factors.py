"""Factors of the places of a season, nearly all of which are one: only the others take memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

__all__ = ["RareFactors"]


class RareFactors:
    """One factor per place, one until it is set; in half precision, whatever the number that is kept takes.

    A place that is one takes nothing, another one eight bytes: a few per cent of the minutes of a day have a spike
    that comes back.

    >>> factors = RareFactors()
    >>> factors[7] = 1.1
    >>> factors[7], factors[8]
    (1.099609375, 1.0)
    """

    __slots__ = ("_factors", "_places")

    def __init__(self) -> None:
        self._places = array("I")  # ascending
        self._factors = array("f")

    def __setitem__(self, place: int, factor: float) -> None:
        """Set the factor of a place, which is not negative."""
        rounded = float(np.float16(factor))
        at = bisect_left(self._places, place)
        known = at < len(self._places) and self._places[at] == place
        if rounded == 1.0:
            if known:
                del self._places[at], self._factors[at]
        elif known:
            self._factors[at] = rounded
        else:
            self._places.insert(at, place)
            self._factors.insert(at, rounded)

    def __getitem__(self, place: int) -> float:
        """Return the factor of a place."""
        at = bisect_left(self._places, place)
        return self._factors[at] if at < len(self._places) and self._places[at] == place else 1.0

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the factors of several places."""
        if not self._places:
            return np.ones(places.size)
        return np.array([self[place] for place in places.tolist()])
