"""Rows of a bridge count only for pools and times without request events; events replace what is still open.

A pool has events from the first base window that they are stored for, and until ``RESUME_SECONDS`` after the last one:
rows of a bridge in between are left out, so that nothing counts twice. When events come, the bridge's rows from their
first window on are taken back where the window has not closed. What has closed stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.store.frontier import Frontier, Touched
from pipeline.store.open_windows import OpenWindows
from pipeline.windows.bridged import BRIDGE_DIMS, is_bridged
from pipeline.windows.fold import take_rows
from pipeline.windows.types import Delta, DeltaRows, Histograms, PoolKey, WindowKey

__all__ = ["RESUME_SECONDS", "BridgedRows", "Parts"]

#: How long, in seconds of event time, a pool may be without events before a bridge counts for it again.
RESUME_SECONDS = 86_400

_MOST_POOLS = 20_000

#: Rows to store: keys, rows and histograms of one delta.
Parts = list[tuple[Sequence[WindowKey], DeltaRows, Histograms]]


class BridgedRows:
    """Decides which rows of bridges are stored; costs nothing where no bridge has ever written."""

    def __init__(self, connection: Any, opened: OpenWindows) -> None:
        self._connection = connection
        self._opened = opened
        self.reload()

    def reload(self) -> None:
        """Forget what was not committed."""
        self._pools: set[PoolKey] = {  # those with rows of a bridge
            PoolKey(*names)
            for names in self._connection.execute(
                "SELECT model, pool FROM keys WHERE dims = ?", [BRIDGE_DIMS]
            ).fetchall()
        }
        self._events: dict[PoolKey, tuple[int, int]] | None = None  # first and last window with events; None: not read

    def stored(
        self, deltas: Sequence[Delta], closed: Frontier, touched: Touched
    ) -> tuple[Parts, Counter[tuple[str, str]]]:
        """Return what of the deltas is to be stored, and notes for ``event_notes``; call inside the transaction.

        The notes are ``bridge_counted`` and ``bridge_ignored``: requests by ``model|pool``.
        """
        notes: Counter[tuple[str, str]] = Counter()
        bridging = [is_bridged(delta.topic) for delta in deltas]
        if not self._pools and not any(bridging):
            return [(d.keys, d.rows, d.histograms) for d in deltas], notes
        arrived: dict[PoolKey, int] = {}
        for delta, own in zip(deltas, bridging, strict=True):
            if not own:
                self._note_events(delta, arrived)
        for pool in sorted(arrived.keys() & self._pools):
            self._take_back(pool, arrived[pool], closed, touched, notes)
        parts: Parts = []
        for delta, own in zip(deltas, bridging, strict=True):
            parts.append(self._left(delta, notes) if own else (delta.keys, delta.rows, delta.histograms))
        if self._events is not None and len(self._events) > _MOST_POOLS:
            self._events = None  # names beyond windows.max_pools are not in the table that it is read from
        return parts, notes

    def _known_events(self) -> dict[PoolKey, tuple[int, int]]:
        if self._events is None:
            rows = self._connection.execute(
                "SELECT model, pool, min(window_start), max(window_start) FROM windows JOIN keys USING (key_id) "
                "WHERE dims <> ? GROUP BY ALL",
                [BRIDGE_DIMS],
            ).fetchall()
            self._events = {PoolKey(model, pool): (first, last) for model, pool, first, last in rows}
        return self._events

    def _note_events(self, delta: Delta, arrived: dict[PoolKey, int]) -> None:
        events = self._known_events()
        for window, key in zip(delta.rows.window, delta.rows.key, strict=True):
            pool = PoolKey(*delta.keys[key][:2])
            first, last = events.get(pool, (window, window))
            if window > last + RESUME_SECONDS:
                first = window  # events have come back
            events[pool] = min(first, window), max(last, window)
            arrived[pool] = min(arrived.get(pool, window), window)

    def _has_events(self, pool: PoolKey, window: int) -> bool:
        span = self._known_events().get(pool)
        return span is not None and span[0] <= window <= span[1] + RESUME_SECONDS

    def _left(self, delta: Delta, notes: Counter[tuple[str, str]]) -> tuple[Any, DeltaRows, Histograms]:
        """The rows of a bridge's delta that count."""
        wanted = []
        for row, (window, key, requests) in enumerate(
            zip(delta.rows.window, delta.rows.key, delta.rows.measures[0], strict=True)
        ):
            pool = PoolKey(*delta.keys[key][:2])
            ignored = self._has_events(pool, window)
            notes["bridge_ignored" if ignored else "bridge_counted", "|".join(pool)] += requests
            if not ignored:
                wanted.append(row)
                self._pools.add(pool)
        return (delta.keys, *take_rows(delta.rows, delta.histograms, wanted))

    def _take_back(
        self, pool: PoolKey, since: int, closed: Frontier, touched: Touched, notes: Counter[tuple[str, str]]
    ) -> None:
        """Delete a bridge's rows of a pool from ``since`` on, where the window has not closed."""
        rows = self._connection.execute(
            "SELECT window_start, key_id, requests FROM windows JOIN keys USING (key_id) "
            "WHERE model = ? AND pool = ? AND dims = ? AND window_start >= ?",
            [*pool, BRIDGE_DIMS, since],
        ).fetchall()
        if not rows:
            return
        windows = np.array([window for window, _, _ in rows], np.int64)
        index = np.zeros(len(rows), np.int64)
        late = closed.late(windows, [pool], index)
        still_open = windows[~late]
        if not still_open.size:
            return
        touched.note(still_open, [pool], index[~late], late[~late])
        self._opened.forget()
        for table in ("windows", "histograms"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE key_id = ? AND window_start >= ?", [rows[0][1], int(still_open.min())]
            )
        taken = sum(int(rows[i][2]) for i in np.flatnonzero(~late).tolist())
        name = "|".join(pool)
        notes["bridge_counted", name] -= taken
        notes["bridge_ignored", name] += taken
