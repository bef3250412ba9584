"""How far the events of one source partition have come, and which of their servers have clocks that are off.

A maximum would follow the one server whose clock is ahead and make the events of all others late. Three things keep
event time from it (docs/adr/0031). An event vouches for no time after its own record's timestamp, nor after now. While
the partition is behind, what most servers have reached decides. Only once it is caught up does the newest event: then
nothing is left to be read that could become late.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.events.columns import EventColumns
from pipeline.events.servers import SAMPLED_EVENTS, sampled_rows

__all__ = ["CLOCK_TOLERANCE_SECONDS", "MAX_NAMED_SERVERS", "PartitionClock"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: A clock that differs by less is not off: delivery takes about as long.
CLOCK_TOLERANCE_SECONDS = 5.0
#: Servers that are named at a time, those that are furthest off.
MAX_NAMED_SERVERS = 16
#: Events of a server in the sample without which its clock is not judged.
MIN_EVENTS = 3
#: The most events of the sample that one server counts for.
_MOST_WEIGHT = SAMPLED_EVENTS // 8


class PartitionClock:
    """The newest events of a partition, at most ``SAMPLED_EVENTS``: what is known of its servers' clocks.

    It is a function of the batches that it was shown, so one that is shown the events before a place again continues
    as one that never stopped. Names of servers are kept only for events that are.
    """

    def __init__(self) -> None:
        self._completed: Floats = np.zeros(0)
        self._reference: Floats = np.zeros(0)
        self._server: Ints = np.zeros(0, np.int64)  # −1: not told
        self._names: dict[str, int] = {}
        #: The newest completion that a record vouched for, epoch seconds; None: no event yet.
        self.newest: float | None = None

    def observe(self, columns: EventColumns, references: Floats) -> None:
        """Take in a batch of accepted events in record order, repeated ones too.

        ``references`` is what each event's record vouches for (``pipeline.events.validation.reference_times``).
        """
        if not len(columns):
            return
        newest = float(np.minimum(columns.completed_at, references).max())
        self.newest = newest if self.newest is None else max(self.newest, newest)
        rows = sampled_rows(len(columns))
        if len(self._names) > 4 * SAMPLED_EVENTS:
            self._forget()
        codes = np.array([self._names.setdefault(name, len(self._names)) for name in columns.servers] + [-1], np.int64)
        self._completed = np.concatenate((self._completed, columns.completed_at[rows]))[-SAMPLED_EVENTS:]
        self._reference = np.concatenate((self._reference, references[rows]))[-SAMPLED_EVENTS:]
        self._server = np.concatenate((self._server, codes[columns.server_name[rows]]))[-SAMPLED_EVENTS:]

    def reached(self, newest: float, *, caught_up: bool) -> float:
        """Return the event time that the partition has reached, epoch seconds, after ``observe``.

        Args:
            newest: the newest completion of the batch that its record vouches for; the result is never after it.
            caught_up: whether the batch ends where the partition ended when it was fetched.
        """
        if caught_up:
            return newest
        times = np.minimum(self._completed, self._reference)
        typical = _typical(times, self._server)
        return min(newest, float(times[times <= typical + CLOCK_TOLERANCE_SECONDS].max()))

    def offsets(self) -> dict[str, float]:
        """Return {server: seconds that its clock is ahead} of those that are off, the furthest first; an estimate.

        A server's difference is the median of completion less arrival in the log, as far as records' timestamps tell
        that. What it is held against is the median over servers: it holds what delivery takes, so it is at most 0. A
        server that is alone is ahead if its events come from the future; that it is behind cannot be told from slow
        delivery.
        """
        differences = self._completed - np.maximum.accumulate(self._reference)
        if not len(differences) or max(differences.max(), np.ptp(differences)) <= CLOCK_TOLERANCE_SECONDS:
            return {}  # nearly always
        order = np.lexsort((differences, self._server))
        server = self._server[order]
        start = np.flatnonzero(np.diff(server, prepend=-2))
        events = np.diff(start, append=len(server))
        judged = (events >= MIN_EVENTS) & (server[start] >= 0)
        if not judged.any():
            return {}
        median = differences[order][start + events // 2][judged]
        ahead = median - min(0.0, float(np.sort(median)[len(median) // 2]))
        far = np.abs(ahead) > CLOCK_TOLERANCE_SECONDS
        if not far.any():
            return {}
        names = list(self._names)
        named = zip(server[start][judged][far].tolist(), ahead[far].tolist(), strict=True)
        off = {names[code]: round(seconds, 1) for code, seconds in named if names[code].isprintable()}
        furthest = sorted(off, key=lambda name: (-abs(off[name]), name))
        return {name: off[name] for name in furthest[:MAX_NAMED_SERVERS]}

    def _forget(self) -> None:
        """Forget the names of servers that no event is kept of."""
        names = list(self._names)
        used, self._server = np.unique(self._server, return_inverse=True)
        if len(used) and used[0] == -1:
            used, self._server = used[1:], self._server - 1
        self._names = {names[code]: place for place, code in enumerate(used.tolist())}


def _typical(times: Floats, server: Ints) -> float:
    """The time that half of the servers have reached, by their newest events.

    The lower median of each server's newest time, weighted by its events, few of which suffice; an event of a server
    that is not told is a server of its own.
    """
    told = server >= 0
    order = np.lexsort((times[told], server[told]))
    ordered, ordered_times = server[told][order], times[told][order]
    last = np.flatnonzero(np.diff(ordered, append=-1))
    newest = np.concatenate((ordered_times[last], times[~told]))
    events = np.diff(last, prepend=-1)
    weight = np.concatenate((np.minimum(events, _MOST_WEIGHT), np.ones(len(newest) - len(last), np.int64)))
    by_time = np.argsort(newest, kind="stable")
    total = np.cumsum(weight[by_time])
    return float(newest[by_time][np.searchsorted(total, total[-1] / 2)])
