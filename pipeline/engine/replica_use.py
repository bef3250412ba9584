"""Replica-hours of one pool, as advised and as they ran, with what was served meanwhile: what money is made of.

Prices are no part of it, so that they may change without a change of state. Windows whose demand is not known, or
without advice, are left out; until the first plan it is not known what a replica carries, and nothing is counted.
"""

from __future__ import annotations

from pipeline.engine.span_sums import SpanSums
from pipeline.engine.types import ReplicaUse
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Recommendation
from sizing.usage_cost import Usage

__all__ = ["USE_SPANS", "ReplicaUseRecord"]

#: Spans that are told, by name, in seconds.
USE_SPANS = {"1h": 3_600, "1d": 86_400, "30d": 2_592_000}
#: Told to ten minutes, the hour and the day.
_GRAINS = ((600, 3_600), (3_600, 86_400), (86_400, 2_592_000))
_SUM_UP_SECONDS = 600
_DAY = 86_400
_CAPACITY = "capacity_requests_per_second_per_replica"
_WIDTH = 7  # hours, replica-hours, capacity in requests, requests, input, cached input and output tokens


class ReplicaUseRecord:
    """The record of one pool. Pickles, and continues identically afterwards."""

    def __init__(self, key: PoolKey) -> None:
        self._key = key
        self._capacity = 0.0  # requests/s that one replica carries; 0: not known yet
        # As advised; as it ran, while that was reported; and the replica-hours advised meanwhile.
        self._sums = SpanSums(2 * _WIDTH + 1, _GRAINS, packed=True)
        self._peaks: list[tuple[int, int]] = []  # day, and the most replicas advised on it
        self._told: tuple[ReplicaUse, ...] = ()
        self._told_at: int | None = None

    def step(self, window: ClosedWindow, advice: Recommendation | None) -> None:
        """Add one closed window and the advice that was made at its end."""
        self._sums.forget(window.end)
        day = window.start // _DAY
        while self._peaks and (self._peaks[0][0] + 1) * _DAY <= window.end - USE_SPANS["30d"]:
            del self._peaks[0]
        if advice is None or window.gap:
            return
        self._capacity = advice.evidence.get(_CAPACITY, 0.0) or self._capacity
        if self._capacity <= 0:
            return
        hours = window.grain_seconds / 3_600
        served = (
            window.requests - window.rejected,
            window.input_tokens,
            window.cached_input_tokens,
            window.output_tokens,
        )
        advised = self._hours(hours, advice.desired, served)
        ran = advice.current
        while_it_ran = (0.0,) * (_WIDTH + 1)
        if ran is not None:
            while_it_ran = (*self._hours(hours, ran, served), hours * advice.desired)
        self._sums.add(window.start, (*advised, *while_it_ran))
        if self._peaks and self._peaks[-1][0] == day:
            self._peaks[-1] = (day, max(self._peaks[-1][1], advice.desired))
        else:
            self._peaks.append((day, advice.desired))

    def _hours(self, hours: float, replicas: int, served: tuple[int, ...]) -> tuple[float, ...]:
        return (hours, hours * replicas, hours * 3_600 * replicas * self._capacity, *served)

    def told(self, end: int) -> tuple[ReplicaUse, ...]:
        """Return the use over every span before ``end`` (epoch seconds) in which there was advice.

        Summed up every ten minutes of event time, and said again in between.
        """
        if end // _SUM_UP_SECONDS != self._told_at or not self._told:
            self._told_at, self._told = end // _SUM_UP_SECONDS, self._summed_up(end)
        return self._told

    def _summed_up(self, end: int) -> tuple[ReplicaUse, ...]:
        told = []
        for span, seconds in USE_SPANS.items():
            sums = self._sums.over(end, seconds)
            if not sums[0]:
                continue
            whole = seconds == USE_SPANS["30d"]  # peaks are kept by day
            told.append(
                ReplicaUse(
                    *self._key,
                    span,
                    advised=Usage(*sums[:_WIDTH]),
                    ran=Usage(*sums[_WIDTH : 2 * _WIDTH]) if sums[_WIDTH] else None,
                    advised_while_ran_replica_hours=sums[-1],
                    peak_replicas=max((peak for _, peak in self._peaks), default=None) if whole else None,
                )
            )
        return tuple(told)
