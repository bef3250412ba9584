"""Producer retries count once: which events of a partition were seen before, by id, within a horizon of offsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Deduplicator"]


class Deduplicator:
    """Remembers the ids of one partition's valid events.

    An event at offset o is a duplicate if and only if a valid event with the same id lies at an offset in
    [o − ``horizon_records``, o). That is a property of the log alone: a new instance that is first fed the records from
    ``horizon_records`` before its start decides exactly like one that never stopped. A horizon of 0 turns it off.

    Memory: at most the ids of two horizons. Two generations of ids, each one horizon of offsets wide, make forgetting a
    matter of dropping the older one.
    """

    def __init__(self, horizon_records: int) -> None:
        if horizon_records < 0:
            raise ValueError(f"horizon_records must not be negative, not {horizon_records}")
        self.horizon_records = horizon_records
        self._generation = -1
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._newest = -1

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    def first_seen(self, ids: Sequence[str], offsets: ArrayLike) -> NDArray[np.bool_]:
        """Return True where an event counts, False where it is a duplicate, and remember all of them.

        ``ids`` and ``offsets`` belong to valid events in ascending offset order. Offsets at or below an earlier call's
        mean that the caller has sought back: everything is forgotten, the horizon has to be read again.
        """
        at = np.asarray(offsets, np.int64)
        first = np.ones(len(ids), np.bool_)
        if not self.horizon_records or not len(ids):
            return first
        if at[0] <= self._newest:
            self._current, self._previous, self._generation = {}, {}, -1
        self._newest = int(at[-1])
        start = 0
        while start < len(ids):
            generation = int(at[start]) // self.horizon_records
            stop = int(np.searchsorted(at, (generation + 1) * self.horizon_records))
            if generation != self._generation:
                self._previous = self._current if generation == self._generation + 1 else {}
                self._current, self._generation = {}, generation
            self._mark(ids[start:stop], at[start:stop].tolist(), first[start:stop])
            start = stop
        return first

    def _mark(self, ids: Sequence[str], offsets: list[int], first: NDArray[np.bool_]) -> None:
        current, previous = self._current, self._previous
        fresh = dict(zip(ids, offsets, strict=True))
        if (
            len(fresh) == len(ids)
            and fresh.keys().isdisjoint(current.keys())
            and fresh.keys().isdisjoint(previous.keys())
        ):
            current.update(fresh)
            return
        for i, (event_id, offset) in enumerate(zip(ids, offsets, strict=True)):
            last = current.get(event_id)
            if last is None:
                last = previous.get(event_id)
            if last is not None and last >= offset - self.horizon_records:
                first[i] = False
            current[event_id] = offset
