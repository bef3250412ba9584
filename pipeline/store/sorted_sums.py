"""Sums by a whole number, in sorted runs: batches are merged when somebody reads, not when they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "SortedSums", "added"]

Ints = NDArray[np.int64]
_MAX_SUM = (1 << 63) - 1
#: Codes in any order, shape (n,), and what each adds, shape (columns, n).
Batch = tuple[Ints, Ints]


class SortedSums:
    """Rows of sums, each with a code; cannot be changed, so that any thread may read.

    Rows lie in runs: each is sorted by code, has a code once, and is more than twice as long as the next. One code may
    be in several runs; ``find`` gives all its rows.
    """

    def __init__(self, runs: Sequence[Batch] = ()) -> None:
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return sum(codes.size for codes, _ in self._runs)

    def plus(self, batches: Sequence[Batch]) -> Self:
        """Return these and the rows of some batches.

        Raises:
            OverflowError: a sum may be beyond 64 bits.
        """
        batches = [batch for batch in batches if batch[0].size]
        if not batches:
            return self
        runs = [*self._runs, _merged(batches)]
        while len(runs) > 1 and 2 * runs[-1][0].size >= runs[-2][0].size:
            runs[-2:] = [_merged(runs[-2:])]
        return type(self)(runs)

    def only(self, low: int, mask: int) -> Self:
        """Return the rows whose code has at least ``low`` in the bits of ``mask``."""
        kept = ((codes, values, (codes & mask) >= low) for codes, values in self._runs)
        return type(self)([(codes[which], values[:, which]) for codes, values, which in kept if which.any()])

    def find(self, spans: Sequence[tuple[int, int]]) -> Batch | None:
        """Return the rows whose codes lie in one of some spans [first, last), in no order; None: there are none."""
        found = list(self._find(np.array(spans, np.int64).reshape(-1)))
        if not found:
            return None
        return np.concatenate([codes for codes, _ in found]), np.concatenate([values for _, values in found], axis=1)

    def _find(self, edges: Ints) -> Iterator[Batch]:
        for codes, values in self._runs:
            places = np.searchsorted(codes, edges).tolist()
            for first, last in zip(places[::2], places[1::2], strict=True):
                if first < last:
                    yield codes[first:last], values[:, first:last]


def _merged(batches: Sequence[Batch]) -> Batch:
    """One run of several batches."""
    codes = np.concatenate([codes for codes, _ in batches])
    values = np.concatenate([values for _, values in batches], axis=1)
    order = np.argsort(codes, kind="stable")  # of runs that are sorted, it merges them
    codes = codes[order]
    first = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    return codes[first], added(values[:, order], first)


def added(values: Ints, first: NDArray[np.intp]) -> Ints:
    """Return the sums of stretches of columns, each from one of ``first`` on.

    Raises:
        OverflowError: a sum may be beyond 64 bits.
    """
    if int(values.max()) > _MAX_SUM // values.shape[1]:
        raise OverflowError("sums may be beyond 64 bits")
    return np.asarray(np.add.reduceat(values, first, axis=1))
