"""Deltas that must wait for a step: those with rows of the window that is being closed.

While the engine works on a window, deltas go on being stored. A row of that very window would be neither in the step,
whose input has been read, nor late, since the step is not recorded yet. So its delta waits, and with it what follows in
its partition; once the step is recorded they are stored, and the row counts as late like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.windows.model import Delta

__all__ = ["HeldDeltas", "Record"]

#: (delta partition, delta offset, delta or None for what is none), as ``Store.apply`` takes them.
Record = tuple[int, int, Delta | None]


class HeldDeltas:
    """Keeps the batches of deltas that wait for the end of a step.

    >>> held = HeldDeltas()
    >>> held.close(60)
    >>> held.holds([(3, 17, None)])
    False
    >>> held.release()
    []
    """

    def __init__(self) -> None:
        self._end: int | None = None
        self._after: int | None = None
        self._batches: dict[int, list[tuple[int, list[Record]]]] = {}

    def __len__(self) -> int:
        """How many batches wait."""
        return sum(map(len, self._batches.values()))

    def close(self, end: int, last_closed: int | None = None) -> None:
        """From now on rows of windows from ``last_closed`` up to ``end`` (epoch seconds) wait; None: all before it."""
        self._after, self._end = last_closed, end

    def holds(self, records: Sequence[Record]) -> bool:
        """Whether records of one partition must wait now: for their rows, or behind others that wait."""
        if self._end is None or not records:
            return False
        return records[0][0] in self._batches or any(
            (self._after is None or window >= self._after) and window < self._end
            for _, _, delta in records
            if delta is not None
            for window in delta.rows.window
        )

    def add(self, epoch: int, records: list[Record]) -> None:
        """Keep records of one partition, read in ``epoch``, until ``release``."""
        self._batches.setdefault(records[0][0], []).append((epoch, records))

    def release(self) -> list[tuple[int, list[Record]]]:
        """The step is over: return what waited, as (epoch, records), in the order of each partition."""
        waited = [batch for batches in self._batches.values() for batch in batches]
        self._batches = {}
        self._end = None
        return waited
