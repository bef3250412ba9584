"""Holds what was issued until it matures."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER", "DelayRing", "stamp", "which"]

#: The stamp of a row that was never issued.
NEVER = 2**32 - 1
_TINY = 1e-30


def stamp(index: int) -> int:
    """What 32 bits remember of the number of a window; never ``NEVER``.

    >>> stamp(7), stamp(2**31 + 7), stamp(-1)
    (7, 7, 2147483647)
    """
    return index & 0x7FFFFFFF


@lru_cache(maxsize=64)
def _layout(steps: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The horizons, and where the rows of each begin: the same arrays for all rings, never changed."""
    return np.array(steps, dtype=np.int64), np.concatenate(([0], np.cumsum(steps)[:-1])).astype(np.int64)


class DelayRing:
    """For each horizon the rows of the last ``h`` issues, recognised by their number, so that gaps need no clearing.

    The first number of a row, its anchor, is kept in single precision; the others are kept in half precision, as
    shares of the largest of them: store what is near the anchor as its distance from the anchor.

    Args:
        steps: horizons in windows, shape ``(horizons,)``; of several series one below another.
        width: numbers per row, at least two.
    """

    def __init__(self, steps: NDArray[np.int64], width: int) -> None:
        self._steps, self._base = _layout(tuple(steps.tolist()))
        total = int(steps.sum())
        self._heads: NDArray[np.float32] = np.zeros((total, 2), dtype=np.float32)
        self._rows: NDArray[np.float16] = np.zeros((total, width - 1), dtype=np.float16)
        self._issued: NDArray[np.uint32] = np.full(total, NEVER, dtype=np.uint32)

    def __getstate__(self) -> dict[str, Any]:
        """Where each horizon's rows begin follows from the horizons."""
        state = self.__dict__.copy()
        del state["_base"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find the beginnings again."""
        self.__dict__.update(state)
        self._steps, self._base = _layout(tuple(self._steps.tolist()))

    def keep(self, rows: slice) -> None:
        """Forget all but these consecutive horizons."""
        steps = self._steps[rows]
        first = int(self._base[rows.start])
        held = slice(first, first + int(steps.sum()))
        self._heads, self._rows = self._heads[held].copy(), self._rows[held].copy()
        self._issued = self._issued[held].copy()
        self._steps, self._base = _layout(tuple(steps.tolist()))

    def take(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The rows issued for window ``index``, shape ``(horizons, width)``, and whether each exists."""
        at = index % self._steps
        at += self._base
        heads = self._heads.take(at, axis=0)
        rows = np.empty((at.size, self._rows.shape[1] + 1), dtype=np.float32)
        rows[:, 0] = heads[:, 0]
        np.multiply(self._rows.take(at, axis=0), heads[:, 1:], out=rows[:, 1:])
        return rows, self._issued.take(at) == (index - self._steps & 0x7FFFFFFF)

    def put(
        self,
        index: int,
        anchor: NDArray[np.floating],
        rows: NDArray[np.floating],
        kept: NDArray[np.bool_] | None = None,
    ) -> None:
        """Keep ``anchor`` ``(horizons,)`` and ``rows`` ``(horizons, width - 1)`` issued at window ``index``.

        Call after ``take(index)``. With ``kept`` ``(horizons,)`` only those horizons.
        """
        at = index % self._steps
        at += self._base
        if kept is not None:
            at, anchor, rows = at[kept], anchor[kept], rows[kept]
        heads = np.empty((at.size, 2), dtype=np.float32)
        heads[:, 0] = anchor
        heads[:, 1] = np.maximum(np.maximum.reduce(np.abs(rows), axis=1), _TINY)
        self._heads[at] = heads
        self._rows[at] = rows / heads[:, 1:]
        self._issued[at] = stamp(index)


def which(matured: NDArray[np.bool_]) -> slice | NDArray[np.intp]:
    """An index for the rows that matured; a slice, which costs nothing, where all of them did."""
    # Of a few flags, their bytes answer sooner than a reduction.
    return slice(None) if 0 not in matured.tobytes() else np.flatnonzero(matured)
