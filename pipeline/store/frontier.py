"""Which windows have closed: all up to the last step, and those of some pools in the step that is being closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.types import PoolKey

__all__ = ["Frontier", "Touched"]


@dataclass(frozen=True, slots=True)
class Frontier:
    """How far windows have closed; event times in epoch seconds.

    Windows before ``until`` have closed for every pool (None: no step yet). While a step is closed pool by pool,
    ``closing`` is the end of its windows, which have closed for ``pools``, and ``until`` is where they start.
    """

    until: int | None = None
    closing: int | None = None
    pools: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def after(cls, step: int | None, revision: int | None, grain_seconds: int) -> Self:
        """Return the frontier after the newest step, and revision (None: there is none).

        A revision before the first step belongs to the first window: none before it is closed any more.
        """
        first = None if revision is None else revision // grain_seconds * grain_seconds
        return cls(first if step is None else step)

    def late(self, window: NDArray[np.int64], pool: Sequence[PoolKey], key: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows belong to windows that have closed.

        ``window`` is the start of each row's window, ``key`` the index of its pool in ``pool``.
        """
        if self.closing is None or self.until is None:
            return np.zeros(window.size, np.bool_) if self.until is None else window < self.until
        closed = np.array([name in self.pools for name in pool], np.bool_)
        ends = np.where(closed, self.closing, self.until)
        return np.asarray(window < ends[key])


class Touched:
    """Notes which pools got rows of the windows that are being closed: what was read of the others stays good."""

    def __init__(self) -> None:
        self._span = (0, 0)
        self._pools: set[PoolKey] = set()
        self._late: set[tuple[PoolKey, int]] = set()

    def watch(self, start: int, end: int) -> None:
        """Note pools with rows of windows that begin in [start, end), epoch seconds, from now on."""
        self._span = (start, end)
        self._pools = set()

    def note(
        self, window: NDArray[np.int64], pool: Sequence[PoolKey], key: NDArray[np.int64], late: NDArray[np.bool_]
    ) -> None:
        """Look at rows that are stored: the start of each one's window, the index of its pool in ``pool``, and whether
        its window has closed.
        """
        start, end = self._span
        inside = (window >= start) & (window < end)
        if inside.any():
            self._pools.update(pool[i] for i in np.unique(key[inside]).tolist())
        if late.any():
            self._late.update(zip((pool[i] for i in key[late].tolist()), window[late].tolist(), strict=True))

    def take_late(self) -> set[tuple[PoolKey, int]]:
        """Return (pool, start of the base window) of the late rows since the last call."""
        late, self._late = self._late, set()
        return late

    def take(self) -> set[PoolKey]:
        """Return the pools noted since the last call."""
        pools, self._pools = self._pools, set()
        return pools
