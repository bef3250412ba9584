"""Measured points as rows of numbers, 64 bytes each, where objects take some 250."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from sizing.calibration.measurement import ObservedPoint

__all__ = ["PackedPoints"]

_FIELDS = 8


class PackedPoints(Sequence[ObservedPoint]):
    """Points, oldest first; every point that is asked for is made anew and equals the one that was given.

    Every pool remembers dozens of points and looks at them once in ten windows, most often at one number of each.
    """

    __slots__ = ("_numbers",)

    def __init__(self, points: Iterable[ObservedPoint] = ()) -> None:
        self._numbers: array[float] = array("d")  # NaN: not known
        if isinstance(points, PackedPoints):
            self._numbers.extend(points._numbers)
        else:
            for point in points:
                self.append(point)

    def append(self, point: ObservedPoint) -> None:
        """Add the newest point."""
        self._numbers.extend(
            (
                point.input_tokens,
                point.output_tokens,
                point.tpot_seconds,
                _or_nan(point.ttft_seconds),
                _or_nan(point.requests_per_second),
                _or_nan(point.concurrency),
                point.closed_loop,
                point.cached_share,
            )
        )

    def remove(self, index: int) -> None:
        """Forget point ``index``, from 0 on."""
        del self._numbers[_FIELDS * index : _FIELDS * (index + 1)]

    def tpot_seconds(self) -> array[float]:
        """Return the time per output token of every point, without making points."""
        return self._numbers[2::_FIELDS]

    def ttft_seconds(self) -> list[float | None]:
        """Return the time to first token of every point (None: not known), without making points."""
        return [_or_none(seconds) for seconds in self._numbers[3::_FIELDS]]

    def __len__(self) -> int:
        return len(self._numbers) // _FIELDS

    @overload
    def __getitem__(self, index: int) -> ObservedPoint: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ObservedPoint]: ...
    def __getitem__(self, index: int | slice) -> ObservedPoint | Sequence[ObservedPoint]:
        """Return point ``index``, or several."""
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        first = _FIELDS * range(len(self))[index]
        tokens_in, tokens_out, tpot, ttft, rate, concurrency, closed, cached = self._numbers[first : first + _FIELDS]
        return ObservedPoint(
            tokens_in, tokens_out, tpot, _or_none(ttft), _or_none(rate), _or_none(concurrency), bool(closed), cached
        )

    def __iter__(self) -> Iterator[ObservedPoint]:
        return (self[index] for index in range(len(self)))


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else number
