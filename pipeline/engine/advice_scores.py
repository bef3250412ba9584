"""Every piece of advice on one pool is scored when the time that it was made for has come.

What was needed then follows from the demand that came and from what one replica carries, by the plan behind the advice:
no forecast, no quantile. Regret is counted in replica-hours, over and under apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pipeline.engine.interval_width import IntervalWidth
from pipeline.engine.span_sums import SpanSums
from pipeline.engine.types import Scorecard
from pipeline.forecast.types import Signal
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.planning.demand_needs import whole
from sizing.scaling.recommendation import PLANNED_STATES
from sizing.types import Recommendation

__all__ = ["SCORE_SPANS", "AdviceScores"]

#: Spans that scores are told over, by name, in seconds; to the hour and the day.
SCORE_SPANS = {"1d": 86_400, "7d": 604_800, "30d": 2_592_000}
_GRAINS = ((3_600, 604_800), (86_400, 2_592_000))
_SUM_UP_SECONDS = 600
#: Advice that waits for its time; a lead time of days at windows of a minute stays below.
_MOST_PENDING = 4_096
#: The evidence that holds what one replica carries, by the rate that it is divided into.
_CAPACITY = {
    Signal.REQUESTS.value: "capacity_requests_per_second_per_replica",
    Signal.PREFILL_TOKENS.value: "capacity_prefill_tokens_per_second_per_replica",
    Signal.DECODE_TOKENS.value: "capacity_decode_tokens_per_second_per_replica",
    Signal.KV_TOKENS.value: "usable_kv_tokens_per_replica",
}


class _Pending(NamedTuple):
    """Advice that is to be scored; ``at`` (epoch seconds) is when its replicas should serve.

    ``planned``: its interval is that of a plan; held advice has none.
    """

    at: float
    desired: int
    lower: int
    upper: int
    least: int
    most: int
    raised: bool
    planned: bool


class AdviceScores:
    """The record of the advice on one pool. Pickles, and continues identically afterwards."""

    def __init__(self, key: PoolKey) -> None:
        self._key = key
        #: The width of the interval of new advice.
        self.interval = IntervalWidth()
        self._pending: list[_Pending] = []
        self._capacity: dict[str, float] = {}  # of one replica, by signal
        # Advice scored, too low, too high, with an interval, within it, replica-hours under and over, unserved,
        # and advice to go up: how often the fleet reported when its time came, how often all advised replicas ran then,
        # for how many of these it is known how many served, and how often all did.
        self._sums = SpanSums(12, _GRAINS, packed=True)
        self._told: tuple[Scorecard, ...] = ()
        self._told_at: int | None = None

    def step(self, window: ClosedWindow, rates: dict[str, float | None], advice: Recommendation | None) -> None:
        """Score what was made for the time of a window, and remember what is advised after it.

        Advice whose time falls into a window without known ``rates`` is not scored: what was needed is not known.
        """
        due = [one for one in self._pending if one.at < window.end]
        if due or len(self._pending) >= _MOST_PENDING:
            self._pending = [one for one in self._pending if one.at >= window.end][1 - _MOST_PENDING :]
        needed = self._needed(rates) if due else None
        for one in due:
            if needed is not None and one.at >= window.start:
                self._score(one, max(needed, float(one.least)), window)
        self._sums.forget(window.end)
        if advice is None:
            return
        capacity = {signal: advice.evidence.get(name, 0.0) for signal, name in _CAPACITY.items()}
        if min(capacity.values()) > 0:
            self._capacity = capacity
        self._pending.append(_pending(advice))

    def revised(self, advice: Recommendation) -> None:
        """Score what was raised between two windows, at its own time, in place of what it was raised from.

        Each step counts once, with the advice that was in force when the next one was made.
        """
        del self._pending[-1:]
        self._pending.append(_pending(advice))

    def _needed(self, rates: dict[str, float | None]) -> float | None:
        """Replicas, not rounded, that the demand of a window needed; None: not known."""
        if not self._capacity:
            return None
        needs = [rate / self._capacity[name] for name, rate in rates.items() if rate is not None]
        return max(needs) if needs and all(map(math.isfinite, needs)) else None

    def _score(self, one: _Pending, exact: float, window: ClosedWindow) -> None:
        needed = whole(exact)
        if one.planned:
            self.interval.learn(one.lower <= min(needed, one.most) <= one.upper)
        hours = window.grain_seconds / 3_600
        reported = one.raised and window.current_replicas is not None
        followed = reported and (window.current_replicas or 0) >= one.desired
        known = followed and window.ready_replicas is not None
        unserved = max(0.0, 1.0 - one.desired / exact) * window.requests if exact > 0 else 0.0
        self._sums.add(
            window.start,
            (
                1,
                one.desired < needed,
                one.desired > needed,
                one.planned,
                one.planned and one.lower <= needed <= one.upper,
                max(0, needed - one.desired) * hours,
                max(0, one.desired - needed) * hours,
                unserved,
                reported,
                followed,
                known,
                known and (window.ready_replicas or 0) >= one.desired,
            ),
        )

    def scorecards(self, end: int) -> tuple[Scorecard, ...]:
        """Return the record over every span before ``end`` (epoch seconds) in which advice was scored.

        Summed up every ten minutes of event time, and said again in between.
        """
        if end // _SUM_UP_SECONDS != self._told_at or not self._told:
            self._told_at, self._told = end // _SUM_UP_SECONDS, self._summed_up(end)
        return self._told

    def _summed_up(self, end: int) -> tuple[Scorecard, ...]:
        told = []
        for span, seconds in SCORE_SPANS.items():
            sums = self._sums.over(end, seconds)
            scored, low, high, planned, covered, under, over, unserved, reported, followed, known, in_time = sums
            if not scored:
                continue
            told.append(
                Scorecard(
                    *self._key,
                    span,
                    scored=int(scored),
                    too_low_ratio=low / scored,
                    too_high_ratio=high / scored,
                    interval_coverage_ratio=covered / planned if planned else None,
                    under_replica_hours=under,
                    over_replica_hours=over,
                    unserved_requests=unserved,
                    followed_ratio=followed / reported if reported else None,
                    lead_time_met_ratio=in_time / known if known else None,
                )
            )
        return tuple(told)


def _pending(advice: Recommendation) -> _Pending:
    at = advice.issued_at + advice.evidence.get("lead_time_seconds", advice.horizon_seconds)
    raised = advice.direction == "up"
    planned = advice.state in PLANNED_STATES
    limits = advice.min_replicas, advice.max_replicas
    return _Pending(at, advice.desired, advice.lower, advice.upper, *limits, raised, planned)
