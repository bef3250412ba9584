"""The newest alerts of one series: when each was told, what it exceeded and what it counted. Pure."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

__all__ = ["Told", "ToldAlerts"]

#: Newest alerts that can be marked.
_REMEMBERED = 256
_FIELDS = 6


@dataclass(frozen=True, slots=True)
class Told:
    """One alert: the window it came in, how many levels it exceeds, those that counted it (bits, at most 53), what it
    counted at the threshold, and as what it is marked (None: not marked).
    """

    at: float
    window: int
    levels: int
    counted: int
    count: float
    marked: float | None = None


class ToldAlerts:
    """The newest 256 alerts, oldest first: 48 bytes each, where objects of their own take some 250."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        # Whole numbers are exact in double precision; NaN: not marked.
        self._numbers = array("d")

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    def append(self, told: Told) -> None:
        """Add the newest alert; the oldest is forgotten."""
        self._numbers.extend(_numbers(told))
        if len(self) > _REMEMBERED:
            del self._numbers[:_FIELDS]

    def find(self, at: float) -> int | None:
        """Return the number of the first alert that was told at ``at``; None: there is none."""
        times = self._numbers[::_FIELDS]
        return times.index(at) if at in times else None

    def __getitem__(self, number: int) -> Told:
        """Return alert ``number``, from 0 on."""
        first = _FIELDS * number
        at, window, levels, counted, count, marked = self._numbers[first : first + _FIELDS]
        return Told(at, int(window), int(levels), int(counted), count, None if math.isnan(marked) else marked)

    def __setitem__(self, number: int, told: Told) -> None:
        """Replace alert ``number``."""
        first = _FIELDS * number
        self._numbers[first : first + _FIELDS] = array("d", _numbers(told))


def _numbers(told: Told) -> tuple[float, ...]:
    marked = math.nan if told.marked is None else told.marked
    return told.at, told.window, told.levels, told.counted, told.count, marked
