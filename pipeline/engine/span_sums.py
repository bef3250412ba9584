"""Sums over spans that end now, in bounded memory: fine near now, coarse far from it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["SpanSums"]


class SpanSums:
    """Sums of several quantities by period. Pickles, and continues identically afterwards.

    Args:
        width: how many quantities.
        grains: (seconds of a period, seconds that it is kept), finest first. A span is told by the finest grain that
            reaches as far, and so to the period.
    """

    def __init__(self, width: int, grains: tuple[tuple[int, int], ...]) -> None:
        self._width = width
        self._grains = grains
        # Numbers of the periods, and their sums one after another: eight bytes a number, for a month of every pool.
        self._periods: tuple[tuple[array[int], array[float]], ...] = tuple((array("q"), array("d")) for _ in grains)

    def __len__(self) -> int:
        return sum(len(numbers) for numbers, _ in self._periods)

    def add(self, at: int, values: Sequence[float]) -> None:
        """Add quantities of the time ``at`` (epoch seconds), which never goes back."""
        for (grain, _), (numbers, sums) in zip(self._grains, self._periods, strict=True):
            if not numbers or numbers[-1] != at // grain:
                numbers.append(at // grain)
                sums.extend([0.0] * self._width)
            first = len(sums) - self._width
            for i, value in enumerate(values, first):
                sums[i] += value

    def forget(self, now: int) -> None:
        """Drop what is older than it is kept at ``now`` (epoch seconds)."""
        for (grain, kept), (numbers, sums) in zip(self._grains, self._periods, strict=True):
            if numbers and numbers[0] * grain < now - kept:
                gone = self._before(numbers, grain, now - kept)
                del numbers[:gone], sums[: gone * self._width]

    def over(self, end: int, seconds: int) -> list[float]:
        """Return the sums of the ``seconds`` before ``end`` (epoch seconds), no longer than is kept."""
        grain, (numbers, sums) = next(
            (grain, periods)
            for (grain, kept), periods in zip(self._grains, self._periods, strict=True)
            if seconds <= kept
        )
        first = self._before(numbers, grain, end - seconds) * self._width
        if first == len(sums):
            return [0.0] * self._width
        return [sum(sums[first + at :: self._width], 0.0) for at in range(self._width)]

    @staticmethod
    def _before(numbers: array[int], grain: int, at: int) -> int:
        """How many periods begin before ``at`` (epoch seconds)."""
        return bisect_left(numbers, -(-at // grain))
