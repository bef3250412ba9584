"""What the newest base windows hold, in memory: the end of nearly every read of history is windows that are open.

The writer hands over what it has stored once it is committed, which is to keep some arrays. Readers sort and add up
what has come since the last read. After a start, or where nobody has read for long, it is read from the store once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from pipeline.store.sorted_sums import Batch, SortedSums, added
from pipeline.windows import histogram
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.rollup import CLOSED_MEASURES
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, MEASURES

__all__ = ["OpenWindows"]

Ints = NDArray[np.int64]

_IS_LATENCY = np.array([name in LATENCIES for name in HISTOGRAMS])
_METRICS = tuple(HISTOGRAMS.index(name) for name in LATENCIES)
_COLUMNS = [MEASURES.index(name) for name in CLOSED_MEASURES]

# A code has, from its lowest bit on: the bucket, the metric, the base window since the first one that is kept, the key.
_METRIC_BIT, _WINDOW_BIT, _KEY_BIT = 14, 18, 36
_MOST_WINDOWS = 1 << (_KEY_BIT - _WINDOW_BIT)  # a month
_MOST_KEYS = 1 << (62 - _KEY_BIT)
_WINDOW_BITS = (_MOST_WINDOWS - 1) << _WINDOW_BIT

#: Counts of latencies that are kept, 16 bytes each; beyond them the store is asked until the next step.
MOST_CELLS = 2_000_000
#: Counts of all histograms that wait to be sorted, 40 bytes each: where nobody reads for so long, nothing is kept.
_MOST_WAITING = 500_000
#: Counts that are read from the store at once, between two transactions: it adds two million up in 0.23 s (2026-12-01).
_MOST_LOADED = 4_000_000

_ROWS = (
    f"SELECT window_start, key_id, {', '.join(f'{name}::BIGINT AS {name}' for name in CLOSED_MEASURES)} "
    "FROM windows WHERE window_start >= ?"
)
_WITHIN = f"FROM histograms WHERE window_start >= ? AND metric IN ({', '.join(map(str, _METRICS))})"
_CELLS = f"SELECT window_start, key_id, metric, bucket, sum(n)::BIGINT AS n {_WITHIN} GROUP BY ALL"
_MANY = f"SELECT count(*) {_WITHIN}"


class _Stored(NamedTuple):
    """What one transaction adds; see ``OpenWindows.hold``."""

    window: Ints
    key_id: Ints
    measures: Ints
    cells: Ints


class OpenWindows:
    """Sums and counts of latencies of all base windows from one on, as they are committed.

    ``hold``, ``keep``, ``undo``, ``forget`` and ``load`` are for the writer; any thread may call the others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._merging = threading.Lock()
        self._since: int | None = None  # None: nothing is kept
        self._first = 0  # the base window of which codes count
        self._loaded_at: int | None = None
        self._rows, self._cells = SortedSums(), SortedSums()
        self._wanted = True
        self._held: list[_Stored] = []
        self._waiting: list[_Stored] = []
        self._number_waiting = 0
        self._all_before = 0

    def hold(self, window: Ints, key_id: Ints, measures: Ints, cells: Ints) -> None:
        """Take what is being stored: rows of base windows, columns of ``MEASURES``; and counts of histograms.

        ``cells`` has a row each for window, key, metric, bucket and count. It counts once ``keep`` is called. Arrays
        are kept as they are, and must not change.
        """
        if self._since is not None:
            self._held.append(_Stored(window, key_id, measures, cells))

    def keep(self, all_before: int = 0) -> None:
        """Show what was held: it is committed. For ``all_before`` see ``note_statuses``."""
        with self._lock:
            self._all_before = max(self._all_before, all_before)
            self._waiting += self._held
            self._number_waiting += sum(stored.cells.shape[1] for stored in self._held)
            self._held = []
        if self._number_waiting > _MOST_WAITING:  # nobody reads
            self._wanted, self._loaded_at = False, None
            self.forget()

    def undo(self) -> None:
        """Forget what was held: it is not committed."""
        self._held = []

    def forget(self) -> None:
        """Keep nothing, until a step has been recorded and ``load`` is called."""
        with self._lock:
            self._since = None
            self._rows, self._cells = SortedSums(), SortedSums()
            self._held, self._waiting, self._number_waiting = [], [], 0

    def load(self, connection: Any, closed: int | None) -> None:
        """Begin with what is stored of windows from ``closed`` on, the end of a step: tried once for each step.

        Where that is too much to read at once, what is kept begins with the first window that has no rows yet. Nothing
        is kept where nobody has read since there was too much that waited; the next read makes it begin anew.
        """
        if self._since is not None or not self._wanted or closed is None or closed == self._loaded_at:
            return
        self._loaded_at = closed
        (before,) = connection.execute("SELECT max(all_before) FROM latency_statuses").fetchone()
        all_before = int(before or 0)  # None: no delta has been stored yet
        (many,) = connection.execute(_MANY, [closed]).fetchone()
        if many > _MOST_LOADED:
            (newest,) = connection.execute("SELECT max(window_start) FROM windows").fetchone()
            self._begin(int(newest) + BASE_SECONDS, all_before)
            return
        try:
            rows = connection.execute(_ROWS, [closed]).fetchnumpy()
        except duckdb.ConversionException:  # a sum beyond 64 bits
            return
        cells = connection.execute(_CELLS, [closed]).fetchnumpy()
        self._begin(closed, all_before)
        window, key_id, *measures = _columns(rows)
        of_all = np.zeros((len(MEASURES), window.size), np.int64)
        of_all[_COLUMNS] = measures
        self.hold(window, key_id, of_all, np.stack(_columns(cells)))
        self.keep()

    def _begin(self, since: int, all_before: int) -> None:
        self.forget()  # also what a reader forgot while it was being stored
        self._since, self._first = since, since // BASE_SECONDS
        self.keep(all_before)

    def drop(self, before: int) -> None:
        """Keep nothing any more of windows that begin before a time (epoch seconds)."""
        with self._merging:
            with self._lock:
                since = self._since
                if since is None or before <= since:
                    return
                self._since = before
                rows, cells = self._rows, self._cells
            low = (-(-before // BASE_SECONDS) - self._first) << _WINDOW_BIT
            less = [sums.only(low, _WINDOW_BITS) for sums in (rows, cells)]
            with self._lock:
                if rows is self._rows and cells is self._cells:  # not forgotten meanwhile
                    self._rows, self._cells = less

    def since(self, grain: int) -> float:
        """Return the start of the first window of ``grain`` seconds that is kept; infinite: nothing is.

        Another thread may drop it before its counts are asked for.
        """
        since = self._since
        if since is None:
            self._wanted = True
            return math.inf
        return -(-since // grain) * grain

    def sums(self, key_ids: Collection[int], start: int, end: int, grain: int) -> list[tuple[int, ...]] | None:
        """Return (start, sums of ``CLOSED_MEASURES``) of windows of ``grain`` seconds in [start, end), ascending.

        ``key_ids`` are those of a pool. None: it is not known what there is.
        """
        kept = self._settled()
        if kept is None or start < kept[0]:
            return None
        found = kept[2].find(self._spans(key_ids, start, end, kept[1]))
        if found is None:
            return []
        codes, values = found
        at = self._starts(codes, kept[1]) // grain * grain
        order = np.argsort(at, kind="stable")
        first = np.flatnonzero(np.diff(at[order], prepend=-1))
        try:
            summed = added(values[:, order], first)
        except OverflowError:
            return None
        return list(zip(at[order][first].tolist(), *summed.tolist(), strict=True))

    def counts(self, key_ids: Collection[int], start: int, end: int, grain: int) -> dict[str, Ints] | None:
        """Return columns ``start``, ``metric``, ``bucket``, ``n`` and ``all_before`` of counts of ``LATENCIES``.

        One count may be in several rows. None: it is not known what there is.
        """
        kept = self._settled()
        if kept is None or start < kept[0]:
            return None
        found = kept[3].find(self._spans(key_ids, start, end, kept[1]))
        codes, values = found or (np.zeros(0, np.int64), np.zeros((1, 0), np.int64))
        return {
            "start": self._starts(codes, kept[1]) // grain * grain,
            "metric": codes >> _METRIC_BIT & ((1 << (_WINDOW_BIT - _METRIC_BIT)) - 1),
            "bucket": (codes & ((1 << _METRIC_BIT) - 1)) + histogram.ZERO_BUCKET,
            "n": values[0],
            "all_before": np.full(codes.size, kept[4]),
        }

    def _settled(self) -> tuple[int, int, SortedSums, SortedSums, int] | None:
        """Sort what waits. Returns since when windows are kept, the first of codes, rows, counts, ``all_before``."""
        with self._merging:
            with self._lock:
                waiting, self._waiting, self._number_waiting = self._waiting, [], 0
                since, first, rows, cells = self._since, self._first, self._rows, self._cells
                all_before = self._all_before
            self._wanted = True
            if since is None:
                return None
            if waiting:
                try:
                    coded = [_coded(stored, first) for stored in waiting]
                    new_rows = rows.plus([of_rows for of_rows, _ in coded])
                    new_cells = cells.plus([of_cells for _, of_cells in coded])
                except OverflowError:
                    self.forget()
                    return None
                with self._lock:
                    if rows is not self._rows or self._since is None:  # forgotten meanwhile
                        return None
                    self._rows, self._cells = rows, cells = new_rows, new_cells
                if len(cells) > MOST_CELLS:
                    self.forget()
                    return None
            return since, first, rows, cells, all_before

    @staticmethod
    def _spans(key_ids: Iterable[int], start: int, end: int, first: int) -> list[tuple[int, int]]:
        low, high = -(-start // BASE_SECONDS) - first, min(-(-end // BASE_SECONDS) - first, _MOST_WINDOWS)
        return [
            ((key << _KEY_BIT) + (low << _WINDOW_BIT), (key << _KEY_BIT) + (high << _WINDOW_BIT)) for key in key_ids
        ]

    @staticmethod
    def _starts(codes: Ints, first: int) -> Ints:
        return np.asarray(((codes & _WINDOW_BITS) >> _WINDOW_BIT) + first) * BASE_SECONDS


def _coded(stored: _Stored, first: int) -> tuple[Batch, Batch]:
    """Rows and counts of windows that are kept, with their codes.

    Raises:
        OverflowError: a window is too late, or a key too large, for a code.
    """
    cells = stored.cells[:, _IS_LATENCY[stored.cells[2]]]
    number, of_cell = stored.window // BASE_SECONDS - first, cells[0] // BASE_SECONDS - first
    if number.max(initial=0) >= _MOST_WINDOWS or stored.key_id.max(initial=0) >= _MOST_KEYS:
        raise OverflowError("no code")
    rows = (stored.key_id << _KEY_BIT | number << _WINDOW_BIT, stored.measures[_COLUMNS])
    code = cells[1] << _KEY_BIT | of_cell << _WINDOW_BIT | cells[2] << _METRIC_BIT
    counts = (code | (cells[3] - histogram.ZERO_BUCKET), cells[4:])
    if number.min(initial=0) < 0:  # late ones
        return _from(rows, number >= 0), _from(counts, of_cell >= 0)
    return rows, counts


def _from(batch: Batch, which: NDArray[np.bool_]) -> Batch:
    codes, values = batch
    return codes[which], values[:, which]


def _columns(found: dict[str, Any]) -> list[Ints]:
    return [np.ma.getdata(column).astype(np.int64) for column in found.values()]
