"""A table of 128-bit ids and the offset at which each was seen last: a few arrays instead of a Python object per id."""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

__all__ = ["IdTable"]

Ids = NDArray[np.uint64]
Ints = NDArray[np.int64]

_LEAST_SLOTS = 1_024


class IdTable:
    """Open addressing with linear probing, at most half full, whole batches at a time.

    A slot takes 20 bytes; a table has 2 to 8 times as many slots as ids. ``clear`` keeps the memory, so that a
    table that is filled again and again takes as much as it needed once.
    """

    def __init__(self) -> None:
        # Ids that somebody chose for it would else share a place, and each be looked for behind all others. Where an id
        # lies decides nothing that a caller sees.
        self._salts = [np.uint64(secrets.randbits(64) | 1) for _ in range(2)]
        self._count = 0
        self._make(_LEAST_SLOTS)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory of the slots in bytes."""
        return self._ids.nbytes + self._seen.nbytes

    def clear(self) -> None:
        """Forget every id."""
        self._ids.fill(0)
        self._count = 0

    def find(self, ids: Ids) -> Ints:
        """Return what was noted of each id of shape (n, 2); −1: it is not in the table."""
        found = np.full(len(ids), -1, np.int64)
        if not self._count:
            return found
        rows, slots, wanted = np.arange(len(ids)), self._home(ids), ids
        while len(rows):
            there = self._ids.take(slots, axis=0)
            taken = np.flatnonzero(there[:, 1])
            same = _equal(there.take(taken, axis=0), wanted.take(taken, axis=0))
            if same.any():
                hits = taken[same]
                found[rows[hits]] = self._seen[slots[hits]]
                taken = taken[~same]
            rows, slots, wanted = rows[taken], (slots[taken] + 1) & self._mask, wanted.take(taken, axis=0)
        return found

    def put(self, ids: Ids, values: NDArray[np.uint32]) -> Ints:
        """Note a value for each id, of equal ids the last one; returns what was noted of each before, −1: nothing.

        "Before" includes the earlier rows of the same call. The second half of an id must not be 0.
        """
        while 2 * (self._count + len(ids)) > len(self._seen):
            self._grow()
        slots, made = self._claim(ids)
        before = np.full(len(ids), -1, np.int64)
        self._count += int(np.count_nonzero(made))
        if not made.all():
            old = ~np.isin(slots, slots[made])
            before[old] = self._seen[slots[old]]
            order = np.argsort(slots, kind="stable")
            again = np.flatnonzero(slots[order][1:] == slots[order][:-1]) + 1
            before[order[again]] = values[order[again - 1]]
        self._seen[slots] = values  # NumPy assigns in order: of equal slots the last one stays
        return before

    def _claim(self, ids: Ids) -> tuple[Ints, NDArray[np.bool_]]:
        """Give every id a slot; returns the slots, and for which rows one was free (one row of equal ids)."""
        slot_of = np.empty(len(ids), np.int64)
        made = np.zeros(len(ids), np.bool_)
        rows, slots, wanted = np.arange(len(ids)), self._home(ids), ids
        while len(rows):
            there = self._ids.take(slots, axis=0)
            open_ = there[:, 1] == 0
            free, taken = np.flatnonzero(open_), np.flatnonzero(~open_)
            if len(taken):
                same = _equal(there.take(taken, axis=0), wanted.take(taken, axis=0))
                if same.any():
                    slot_of[rows[taken[same]]] = slots[taken[same]]
                    taken = taken[~same]
                slots[taken] = (slots[taken] + 1) & self._mask
            claimed, claiming = slots[free], rows[free]
            self._seen[claimed] = claiming
            won = self._seen[claimed] == claiming  # several rows may want one slot; the others look again
            if not won.all():
                taken = np.concatenate((taken, free[~won]))
                free, claimed, claiming = free[won], claimed[won], claiming[won]
            slot_of[claiming], made[claiming] = claimed, True
            self._ids[claimed] = wanted.take(free, axis=0)
            rows, slots, wanted = rows[taken], slots[taken], wanted.take(taken, axis=0)
        return slot_of, made

    def _home(self, ids: Ids) -> Ints:
        mixed = ids[:, 0] * self._salts[0] + ids[:, 1] * self._salts[1]
        home: Ints = (mixed >> self._shift).view(np.int64)
        return home

    def _make(self, slots: int) -> None:
        self._ids = np.zeros((slots, 2), np.uint64)
        self._seen = np.zeros(slots, np.uint32)
        self._mask = slots - 1
        self._shift = np.uint64(64 - self._mask.bit_length())

    def _grow(self) -> None:
        ids, seen = self._ids, self._seen
        used = ids[:, 1] != 0
        self._make(4 * len(seen))
        slots, _ = self._claim(ids[used])
        self._seen[slots] = seen[used]


def _equal(a: Ids, b: Ids) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (a[:, 0] == b[:, 0]) & (a[:, 1] == b[:, 1])
    return equal
