"""Sums over spans that end now, in bounded memory: fine near now, coarse far from it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence

import cramjam

__all__ = ["SpanSums"]

_LEVEL = 1


class SpanSums:
    """Sums of several quantities by period. Pickles, and continues identically afterwards.

    Args:
        width: how many quantities.
        grains: (seconds of a period, seconds that it is kept), finest first. A span is told by the finest grain that
            reaches as far, and so to the period.
        packed: keep periods that have ended compressed, without loss. For what is told a few times an hour: ``over``
            then takes some ten microseconds, but sums of a month, most of them counts, take a tenth of the memory.
    """

    def __init__(self, width: int, grains: tuple[tuple[int, int], ...], *, packed: bool = False) -> None:
        self._width = width
        self._grains = grains
        self._periods = tuple(_Periods(width, packed=packed) for _ in grains)

    def __len__(self) -> int:
        return sum(len(periods.numbers) for periods in self._periods)

    def add(self, at: int, values: Sequence[float]) -> None:
        """Add quantities of the time ``at`` (epoch seconds), which never goes back."""
        for (grain, _), periods in zip(self._grains, self._periods, strict=True):
            sums = periods.of(at // grain)
            first = len(sums) - self._width
            for i, value in enumerate(values, first):
                sums[i] += value

    def forget(self, now: int) -> None:
        """Drop what is older than it is kept at ``now`` (epoch seconds)."""
        for (grain, kept), periods in zip(self._grains, self._periods, strict=True):
            if periods.numbers and periods.numbers[0] * grain < now - kept:
                periods.drop(periods.before(-(-(now - kept) // grain)))

    def over(self, end: int, seconds: int) -> list[float]:
        """Return the sums of the ``seconds`` before ``end`` (epoch seconds), no longer than is kept."""
        grain, periods = next(
            (grain, periods)
            for (grain, kept), periods in zip(self._grains, self._periods, strict=True)
            if seconds <= kept
        )
        first = periods.before(-(-(end - seconds) // grain)) * self._width
        sums = periods.all()
        if first == len(sums):
            return [0.0] * self._width
        return [sum(sums[first + at :: self._width], 0.0) for at in range(self._width)]


class _Periods:
    """Numbers of the periods of one grain, and their sums one after another."""

    __slots__ = ("_newest", "_older", "_packed", "_width", "numbers")

    def __init__(self, width: int, *, packed: bool) -> None:
        self._width = width
        self._packed = packed
        self.numbers: array[int] = array("q")
        # The sums of the periods that have ended, compressed; nothing where they are not to be.
        self._older = b""
        self._newest: array[float] = array("d")

    def of(self, number: int) -> array[float]:
        """The array that ends with the sums of the newest period, which is now ``number``."""
        if not self.numbers or self.numbers[-1] != number:
            self.numbers.append(number)
            if self._packed and self._newest:
                self._older, self._newest = _compressed(self.all()), array("d")
            self._newest.extend([0.0] * self._width)
        return self._newest

    def before(self, number: int) -> int:
        """How many periods have lower numbers."""
        return bisect_left(self.numbers, number)

    def all(self) -> array[float]:
        """The sums of all periods, oldest first; only to be read."""
        if not self._older:
            return self._newest
        sums = array("d", bytes(cramjam.zstd.decompress(self._older)))
        sums.extend(self._newest)
        return sums

    def drop(self, count: int) -> None:
        """Forget the ``count`` oldest periods."""
        del self.numbers[:count]
        if self._older:
            older = self.all()[count * self._width : -self._width]
            self._older = _compressed(older) if older else b""
            if not self.numbers:
                self._newest = array("d")
        else:
            del self._newest[: count * self._width]


def _compressed(sums: array[float]) -> bytes:
    return bytes(cramjam.zstd.compress(sums.tobytes(), level=_LEVEL))
