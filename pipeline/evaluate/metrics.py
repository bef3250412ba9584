"""What a monitoring system sees of the simulated fleet: loads now, arrivals and latencies of the newest seconds."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from sizing.simulate.fleet import Fleet
from sizing.simulate.lane import LaneLoad

__all__ = ["FleetMetrics", "ReplicaLoad", "ReportedRequests"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What one ready replica holds: the sum over its lanes, and the mean of their KV use.
ReplicaLoad = LaneLoad


@dataclass(frozen=True, slots=True)
class ReportedRequests:
    """Requests that have ended, in order of arrival; arrays of one length. Seconds; NaN: not known.

    ``queue_seconds`` and ``ttft_seconds`` run from arrival. ``replica`` is the number of the one that took a request,
    -1: none. ``rejected`` requests were refused when they came, ``failed`` ones lost with their replica; all others
    were served to the end.
    """

    number: Ints
    arrived_seconds: Floats
    completed_seconds: Floats
    queue_seconds: Floats
    ttft_seconds: Floats
    input_tokens: Ints
    cached_input_tokens: Ints
    output_tokens: Ints
    preemptions: Ints
    replica: Ints
    rejected: NDArray[np.bool_]
    failed: NDArray[np.bool_]


class _Log:
    """Requests in order of the time at which something happened to them; times that are still to come wait."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.requests: list[int] = []
        self._coming: list[tuple[float, int]] = []
        self._read = 0

    def read(self, source: list[int], times: list[float], now: float) -> None:
        for request in source[self._read :]:
            if times[request] == times[request]:  # not NaN
                heappush(self._coming, (times[request], request))
        self._read = len(source)
        while self._coming and self._coming[0][0] <= now:
            time, request = heappop(self._coming)
            self.times.append(time)
            self.requests.append(request)

    def since(self, start: float) -> list[int]:
        return self.requests[bisect_right(self.times, start) :]


class FleetMetrics:
    """The fleet as a policy may see it at ``now_seconds``; nothing of what is still to come.

    ``replicas`` are ordered and not drained, ``ready`` of them take requests. Windows reach back from now, in seconds.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._delay = fleet.frontend_seconds()
        self._begun, self._ended = _Log(), _Log()
        self.now_seconds = fleet.now_seconds
        self._rejected_before = np.concatenate(([0], np.cumsum(fleet.rejected)))
        self._loads: tuple[ReplicaLoad, ...] | None = None
        self.replicas = self.ready = 0
        self.refresh()

    def refresh(self) -> None:
        """Look at the fleet as it is now, after ``Fleet.advance``."""
        fleet = self._fleet
        self.now_seconds = fleet.now_seconds
        self._loads = None
        self.replicas, self.ready = fleet.replicas, fleet.ready_replicas
        self._begun.read(fleet.table.begun, fleet.table.first, self.now_seconds)
        self._ended.read(fleet.table.ended, fleet.table.finish, self.now_seconds)

    @property
    def loads(self) -> tuple[ReplicaLoad, ...]:
        """What each ready replica holds."""
        if self._loads is None:
            self._loads = tuple(_replica(lanes) for lanes in self._fleet.loads())
        return self._loads

    @property
    def running(self) -> int:
        """Requests admitted by an engine."""
        return sum(load.running for load in self.loads)

    @property
    def waiting(self) -> int:
        """Requests that wait, in front of the router or in an engine's queue."""
        return self._fleet.waiting_in_front + sum(load.waiting for load in self.loads)

    @property
    def arrived(self) -> int:
        """Requests that have arrived, as a router counts them."""
        return int(np.searchsorted(self._fleet.requests.arrival_seconds, self.now_seconds, side="left"))

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and not ended, wherever they are."""
        arrived = self.arrived
        return arrived - int(self._rejected_before[arrived]) - len(self._ended.requests) - self._fleet.table.lost

    def _arrived(self, window_seconds: float) -> slice:
        arrival, now = self._fleet.requests.arrival_seconds, self.now_seconds
        low, high = np.searchsorted(arrival, [now - window_seconds, now], side="left")
        return slice(int(low), int(high))

    def arrivals(self, window_seconds: float) -> int:
        """Return how many requests arrived in the newest seconds."""
        part = self._arrived(window_seconds)
        return int(part.stop - part.start)

    def input_tokens(self, window_seconds: float) -> float | None:
        """Return the mean prompt of the requests that arrived in the newest seconds; None: there were none."""
        part = self._arrived(window_seconds)
        tokens = self._fleet.requests.input_tokens[part]
        return float(tokens.mean()) if tokens.size else None

    def output_tokens(self, window_seconds: float) -> float | None:
        """Return the mean output of the requests that ended in the newest seconds; None: there were none."""
        ended = self._ended.since(self.now_seconds - window_seconds)
        return float(self._fleet.requests.output_tokens[ended].mean()) if ended else None

    def ttft_seconds(self, window_seconds: float) -> Floats:
        """Return the times to first token, from arrival, of the first tokens of the newest seconds."""
        begun = self._begun.since(self.now_seconds - window_seconds)
        first = np.array([self._fleet.table.first[r] for r in begun])
        return first + self._delay[begun] - self._fleet.requests.arrival_seconds[begun]

    def tpot_seconds(self, window_seconds: float) -> Floats:
        """Return the times per output token of the requests of several tokens that ended in the newest seconds."""
        ended = [r for r in self._ended.since(self.now_seconds - window_seconds) if self._fleet.table.output[r] > 1]
        table = self._fleet.table
        return np.array([(table.finish[r] - table.first[r]) / (table.output[r] - 1) for r in ended])

    def reported(self, start_seconds: float, end_seconds: float) -> ReportedRequests:
        """Return the requests that arrived in [start, end) and have ended by now, whatever became of them."""
        fleet, table = self._fleet, self._fleet.table
        low, high = np.searchsorted(fleet.requests.arrival_seconds, [start_seconds, end_seconds], side="left").tolist()
        delay = self._delay[low:high]
        finish, failed = np.array(table.finish[low:high]) + delay, np.array(table.failed[low:high])
        rejected = fleet.rejected[low:high]
        arrived = fleet.requests.arrival_seconds[low:high]
        completed = np.where(rejected, arrived, np.where(np.isnan(failed), finish, failed))
        known = np.flatnonzero(completed <= self.now_seconds)
        return ReportedRequests(
            number=known + low,
            arrived_seconds=arrived[known],
            completed_seconds=completed[known],
            queue_seconds=np.array(table.admitted[low:high])[known] - arrived[known],
            ttft_seconds=(np.array(table.first[low:high]) + delay)[known] - arrived[known],
            input_tokens=fleet.requests.input_tokens[low:high][known],
            cached_input_tokens=fleet.requests.cached_tokens[low:high][known],
            output_tokens=fleet.requests.output_tokens[low:high][known],
            preemptions=np.array(table.preemptions[low:high], dtype=np.int64)[known],
            replica=np.array(fleet.owner[low:high], dtype=np.int64)[known],
            rejected=rejected[known],
            failed=~np.isnan(failed[known]),
        )


def _replica(lanes: tuple[LaneLoad, ...]) -> ReplicaLoad:
    if len(lanes) == 1:
        return lanes[0]
    return ReplicaLoad(
        sum(lane.running for lane in lanes),
        sum(lane.waiting for lane in lanes),
        sum(lane.kv_used_ratio for lane in lanes) / len(lanes),
        sum(lane.context_tokens for lane in lanes),
        sum(lane.queued_prompt_tokens for lane in lanes),
    )
