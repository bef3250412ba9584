"""The newest hour of closed windows of every pool, packed in memory: most reads ask for nothing older.

What has closed changes only by late events, so nearly all of an hour's history need not be asked of DuckDB, which takes
longer to plan a query than to read its rows. Windows that get late events are stale until they have been read again.
A pool takes less than 10 kB: windows are packed by eights, the newest ones one by one.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from pipeline.store.window_history import TOLD, closed_rows
from pipeline.store.window_latencies import PERCENTILES, pools_latencies
from pipeline.windows import histogram
from pipeline.windows.latencies import LATENCIES
from pipeline.windows.rollup import CLOSED_MEASURES

__all__ = ["KEPT_WINDOWS", "Found", "RecentWindows"]

#: Windows of a pool that are kept, at least; up to ``_PER_BLOCK`` more of them. An hour by the minute, and what has
#: closed since somebody began to ask for it.
KEPT_WINDOWS = 64
_PER_BLOCK = 8
#: Windows that are read at a time, over all pools: between two reads other threads have a turn.
_READ_AT_A_TIME = 2_000
#: Of zlib: sums have little in common, higher levels save next to nothing.
_LEVEL = 1

_NAMES = (*CLOSED_MEASURES, "closed", *TOLD)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

_NOT_PACKED = b""

Pool = tuple[str, str]


class Found(NamedTuple):
    """What is known in memory of the windows that begin in [start, ``until``): rows, latencies by start.

    ``single`` tells, row by row, whether it is one closed window as it was closed.
    """

    until: int
    rows: list[dict[str, Any]]
    latencies: dict[int, dict[str, Any]]
    single: list[bool]


@dataclass(slots=True)
class _Packed:
    """Windows of one pool by their start: ``blocks`` of several by the start of the first, the newest ones alone."""

    blocks: dict[int, bytes] = field(default_factory=dict)
    alone: dict[int, bytes] = field(default_factory=dict)


class RecentWindows:
    """Closed windows of ``grain_seconds`` of all pools over one span up to the newest; any thread may call."""

    def __init__(self, grain_seconds: int) -> None:
        self._grain = grain_seconds
        self._block = _PER_BLOCK * grain_seconds
        self._lock = threading.Lock()
        self._filling = threading.Lock()
        self._span = (0, 0)
        self._pools: dict[Pool, _Packed] = {}
        #: By the start of the window: after how many calls of ``note`` it was noted last.
        self._stale: dict[Pool, dict[int, int]] = {}
        self._notes = 0
        self._emptied = 0
        self._all_before = 0

    def find(self, model: str, pool: str, start: int, end: int) -> Found:
        """Return what is known of the windows of a pool that begin in [start, end), from ``start`` on."""
        key = (model, pool)
        with self._lock:
            first, last = self._span
            if not first <= start < last:
                return Found(start, [], {}, [])
            stale = (at for at in self._stale.get(key, ()) if at >= start)
            until = min(end, last, *stale)
            packed = self._pools.get(key)
            if packed is None:
                return Found(until, [], {}, [])
            blocks = [body for at, body in sorted(packed.blocks.items()) if start - self._block < at < until]
            alone = [body for at, body in packed.alone.items() if start <= at < until]
        found = Found(until, [], {}, [])
        for window in sorted((*(w for body in blocks for w in _unpacked(body)), *map(_decode, alone)), key=_start):
            if start <= window[0] < until:
                self._tell(window, found)
        return found

    def note(self, late: Collection[tuple[Pool, int]], all_before: int = 0) -> None:
        """Take note of rows that were stored and whose windows have closed, as (pool, time): what is kept is stale now.

        Windows before ``all_before`` hold latencies of requests of all statuses, of an older version.
        """
        with self._lock:
            self._all_before = max(self._all_before, all_before)
            self._notes += 1
            first, last = self._span
            filling = self._filling.locked()
            for pool, at in late:
                if first <= at < last or filling:
                    self._stale.setdefault(pool, {})[at // self._grain * self._grain] = self._notes

    def oldest(self) -> float:
        """Return the start of the oldest window that may be kept, epoch seconds; infinite: nothing is."""
        return self._span[0] if self._span[0] < self._span[1] else math.inf

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._span, self._pools, self._stale = (0, 0), {}, {}
            self._emptied += 1

    def fill(self, cursor: Any, closed: int) -> None:
        """Read what is missing or stale of the windows before ``closed`` (epoch seconds, the end of the last step)."""
        with self._filling:
            (before,) = cursor.execute("SELECT max(all_before) FROM latency_statuses").fetchone()
            with self._lock:
                self._all_before = max(self._all_before, int(before))
                last = self._span[1]
                oldest = closed // self._block * self._block - KEPT_WINDOWS * self._grain
                if not oldest < last <= closed:
                    last, self._span, self._pools = oldest, (oldest, oldest), {}
                stale = {pool: set(noted) for pool, noted in self._stale.items()}
                emptied, pools = self._emptied, len(self._pools)
            old = sorted({at for starts in stale.values() for at in starts if oldest <= at < last})
            at_a_time = max(1, _READ_AT_A_TIME // max(1, pools or self._count(cursor)))
            for starts in (*_slices(old, at_a_time), *_slices(range(last, closed, self._grain), at_a_time)):
                if not self._read(cursor, starts, stale, last, emptied):
                    return
            with self._lock:
                self._expire(oldest)

    @staticmethod
    def _count(cursor: Any) -> int:
        return int(cursor.execute("SELECT count(*) FROM keys").fetchone()[0])

    def _read(
        self, cursor: Any, starts: Sequence[int], stale: Mapping[Pool, set[int]], last: int, emptied: int
    ) -> bool:
        """Keep windows of all pools that begin at ``starts``: all of those from ``last`` on, else what is stale.

        False: everything was forgotten meanwhile.
        """
        notes = self._notes
        rows, more = closed_rows(cursor, starts, self._grain)
        latencies = pools_latencies(cursor, starts, self._grain)
        read = set(starts)
        packed: dict[Pool, dict[int, bytes | None]] = {
            pool: dict.fromkeys(of_pool & read) for pool, of_pool in stale.items() if of_pool & read
        }
        for pool, of_pool in rows.items():
            told, kept = latencies.get(pool, {}), stale.get(pool, ())
            for row in of_pool:
                start = row["start"]
                if start >= last or start in kept:
                    packed.setdefault(pool, {})[start] = _packed(row, (*pool, start) not in more, told.get(start))
        with self._lock:
            if emptied != self._emptied:
                return False
            for pool, windows in packed.items():
                noted = self._stale.get(pool, {})
                for start, body in windows.items():
                    if noted.get(start, 0) <= notes:  # what has come since is not in it
                        noted.pop(start, None)
                    self._put(pool, start, body)
            self._span = (self._span[0], max(self._span[1], starts[-1] + self._grain))
        return True

    def _put(self, pool: Pool, start: int, body: bytes | None) -> None:
        """Keep a window, or that there is none."""
        packed = self._pools.setdefault(pool, _Packed())
        at = start // self._block * self._block
        if body == _NOT_PACKED:  # it stays stale, and is asked of the store
            self._stale.setdefault(pool, {})[start] = self._notes
        elif at in packed.blocks:
            windows = [window for window in _unpacked(packed.blocks[at]) if window[0] != start]
            packed.blocks[at] = _block([*windows, *([] if body is None else [_decode(body)])])
        elif body is None:
            packed.alone.pop(start, None)
        else:
            whole: dict[int, list[Any]] = {}
            for alone in [other for other in packed.alone if other < at]:
                whole.setdefault(alone // self._block * self._block, []).append(_decode(packed.alone.pop(alone)))
            packed.blocks.update((other, _block(windows)) for other, windows in whole.items())
            packed.alone[start] = body

    def _expire(self, oldest: int) -> None:
        self._span = (max(self._span[0], oldest), self._span[1])
        for pool, noted in list(self._stale.items()):
            self._stale[pool] = {at: when for at, when in noted.items() if at >= oldest}
            if not self._stale[pool]:
                del self._stale[pool]
        for pool, packed in list(self._pools.items()):
            packed.blocks = {at: body for at, body in packed.blocks.items() if at >= oldest}
            if not packed.blocks and all(at < oldest for at in packed.alone):
                del self._pools[pool]

    def _tell(self, window: list[Any], found: Found) -> None:
        start, single, told, *values = window
        found.rows.append({"start": start, "end": start + self._grain, **dict(zip(_NAMES, values, strict=True))})
        found.single.append(single)
        if told is not None:
            latencies = found.latencies[start] = {"statuses": "ok" if start >= self._all_before else "all"}
            for name, cell in zip(LATENCIES, told, strict=True):
                if cell is not None:
                    count, mean, *buckets = cell
                    named = zip(PERCENTILES, map(histogram.value, buckets), strict=True)
                    latencies[name] = {"told": count, "mean": mean, **dict(named)}


def _packed(row: Mapping[str, Any], single: bool, told: Mapping[str, Any] | None) -> bytes:
    """One window; ``_NOT_PACKED`` where a sum is beyond 64 bits."""
    cells = None if told is None else [_cell(told.get(name)) for name in LATENCIES]
    try:
        return _encode([row["start"], single, cells, *(row[name] for name in _NAMES)])
    except OverflowError:
        return _NOT_PACKED


def _cell(told: Mapping[str, Any] | None) -> list[Any] | None:
    return None if told is None else [told["told"], told["mean"], *(_bucket(told[name]) for name in PERCENTILES)]


@lru_cache(maxsize=1 << 13)
def _bucket(value: float) -> int:
    return int(histogram.bucket(value))


def _block(windows: list[list[Any]]) -> bytes:
    return zlib.compress(_encode(sorted(windows, key=_start)), _LEVEL)


def _unpacked(body: bytes) -> list[list[Any]]:
    return _decode(zlib.decompress(body))  # type: ignore[no-any-return]


def _start(window: list[Any]) -> int:
    return window[0]  # type: ignore[no-any-return]


def _slices(starts: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(starts), length):
        yield starts[first : first + length]
