"""Producer retries count once: which events of a partition were seen before, within a horizon of offsets.

A retry is the same event: same id, same attempt, same arrival, same size. Ids that software reuses (short random ones,
constants, a gateway's request id on every attempt) therefore cost no demand; they are counted, to be seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.events.byte_columns import mixed_in
from pipeline.events.columns import EventColumns
from pipeline.windows.id_table import IdTable

__all__ = ["MAX_HORIZON_RECORDS", "Deduplicator", "identities", "reused_ids"]

#: Offsets are noted in 32 bits, counted from the start of their generation.
MAX_HORIZON_RECORDS = (1 << 32) - 1


#: Events of a batch that are looked at for reused ids; only where some are found, all are counted.
_SAMPLE = 1_024
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: 2⁶⁴ over the golden ratio


def identities(columns: EventColumns) -> NDArray[np.uint64]:
    """Return what tells events from one another, as hashes, shape (n, 2): id, attempt, arrival and token counts."""
    size = ((columns.input_tokens + 1) << 40) | ((columns.output_tokens + 1) << 16) | ((columns.attempt + 1) & 0xFFFF)
    return mixed_in(columns.ids, columns.arrived_at.view(np.uint64) ^ (size.view(np.uint64) * _SPREAD))


def reused_ids(ids: NDArray[np.uint64], events: NDArray[np.uint64]) -> int:
    """Return how many events of a batch have an id that another event of the batch has as well.

    ``ids`` are hashes of the ids, ``events`` the ``identities``; repetitions of one event are not counted. Reuse in few
    events of a batch can go unseen: it is looked for among the first ones.
    """
    if _distinct(ids[:_SAMPLE]) == _distinct(events[:_SAMPLE]):
        return 0
    return _distinct(events) - _distinct(ids)


def _distinct(hashes: NDArray[np.uint64]) -> int:
    return len(np.unique(hashes[:, 0]))


class Deduplicator:
    """Remembers the identities of one partition's valid events.

    An event at offset o is a duplicate if and only if a valid event with the same identity lies at an offset in
    [o − ``horizon_records``, o], before it in reading order. That is a property of the log alone: a new instance that
    is first fed the records from ``horizon_records`` before its start decides exactly like one that never stopped. A
    horizon of 0 turns it off.

    Ids are known by 127 bits of a hash (``pipeline.events.byte_columns.hash_texts``): if it spreads ids
    as random numbers would, the chance that any two of 10¹² are taken for one is below 10⁻¹⁴.

    Memory: at most the ids of two horizons. Two generations of ids, each one horizon of offsets wide, make forgetting a
    matter of emptying the older one.
    """

    def __init__(self, horizon_records: int) -> None:
        if not 0 <= horizon_records <= MAX_HORIZON_RECORDS:
            raise ValueError(f"horizon_records must not be negative or above 2³², not {horizon_records}")
        self.horizon_records = horizon_records
        self._generation = -1
        self._current, self._previous = IdTable(), IdTable()
        self._newest = -1

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    @property
    def nbytes(self) -> int:
        """Memory that the ids take, in bytes."""
        return self._current.nbytes + self._previous.nbytes

    def first_seen(self, ids: NDArray[np.uint64], offsets: ArrayLike) -> NDArray[np.bool_]:
        """Return True where an event counts, False where it is a duplicate, and remember all of them.

        ``ids`` (``identities``) and ``offsets`` belong to valid events in ascending offset order; a record with several
        events has its offset several times. Offsets at or below an earlier call's mean that the caller has sought back:
        everything is forgotten, the horizon has to be read again.
        """
        at = np.asarray(offsets, np.int64)
        first = np.ones(len(ids), np.bool_)
        if not self.horizon_records or not len(ids):
            return first
        if at[0] <= self._newest:
            self._current.clear()
            self._previous.clear()
            self._generation = -1
        self._newest = int(at[-1])
        start = 0
        while start < len(ids):
            generation = int(at[start]) // self.horizon_records
            stop = int(np.searchsorted(at, (generation + 1) * self.horizon_records))
            if generation != self._generation:
                self._turn_to(generation)
            first[start:stop] = self._first(ids[start:stop], at[start:stop] - generation * self.horizon_records)
            start = stop
        return first

    def _turn_to(self, generation: int) -> None:
        self._current, self._previous = self._previous, self._current
        self._current.clear()
        if generation != self._generation + 1:
            self._previous.clear()
        self._generation = generation

    def _first(self, ids: NDArray[np.uint64], at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Decide for events of one generation; ``at`` counts from its start."""
        first: NDArray[np.bool_] = self._current.put(ids, at.astype(np.uint32)) < 0
        earlier = self._previous.find(ids)
        # In the previous generation the horizon reaches back to the same place.
        return first & ~((earlier >= 0) & (earlier >= at))
