"""Observed demand as ``reactive`` has it, and replicas loaded before announced events (``sizing.planning.preload``).

Before an event is due, what it will need is worked out anew at every decision: the rate of the last ten minutes times
the announced size, to the power of the announcement's confidence as the calendar's effects have it, times the headroom
of ``reactive``. From the moment at which loading has to begin it stands. Ten minutes after the onset what is observed
decides alone, so that an event that does not come costs no more than that. Events without an announced size are left
out.
"""

from __future__ import annotations

import math

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies import reactive
from pipeline.evaluate.policies.base import CALENDAR, Knob, PolicySpec, Setup
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import SeriesKey, Signal
from sizing.planning.preload import Preload, Spike, preload

__all__ = ["SPEC", "Preloading"]

_BASE_SECONDS = 600.0
_HOLD_SECONDS = 600.0


class Preloading:
    """The ``reactive`` rule, and at least what announced events need from their begin until they can be observed.

    Replicas are to be ready ``margin_seconds`` before an onset. ``plans``: what was loaded, in order of its beginning.
    """

    interval_seconds = 15.0
    initial_replicas = None

    def __init__(self, setup: Setup, margin_seconds: float) -> None:
        self._setup, self._margin_seconds = setup, margin_seconds
        self._rule = reactive.SPEC.policy(setup)
        self._headroom = reactive.SPEC.knob.default or 1.0
        series = SeriesKey(setup.pool.model, setup.pool.pool, Signal.REQUESTS)
        sized = (r for r in setup.calendar if r.expected_size is not None and r.scope.covers(series))
        self._to_come = sorted(sized, key=lambda record: (record.starts_at, record.id))
        self.plans: list[Preload] = []

    def decide(self, metrics: FleetMetrics) -> int:
        """Return the replicas for the rate of the last minute, or for what is about to come."""
        now = self._setup.epoch + metrics.now_seconds
        self._begin(now, metrics)
        held = [p.spike for p in self.plans if now < min(p.spike.starts_at + _HOLD_SECONDS, p.spike.ends_at)]
        return max(self._rule.decide(metrics), *(spike.needed for spike in held), 0)

    def _begin(self, now: float, metrics: FleetMetrics) -> None:
        """Begin what is due."""
        waiting = []
        for record in self._to_come:
            if record.starts_at <= now:
                continue
            plan = None
            if record.announced_at is None or record.announced_at <= now:
                spike = self._spike(record, metrics)
                (plan,) = preload(
                    (spike,), now, margin_seconds=self._margin_seconds, detection_seconds=self.interval_seconds
                )
            if plan is None or plan.begin_at is None or plan.begin_at > now:
                waiting.append(record)
            else:
                self.plans.append(plan)
        self._to_come = waiting

    def _spike(self, record: CalendarRecord, metrics: FleetMetrics) -> Spike:
        setup, pool = self._setup, self._setup.pool
        seen = min(_BASE_SECONDS, max(metrics.now_seconds, 1.0))
        size = math.exp(record.confidence * math.log(record.expected_size or 1.0))
        rate = metrics.arrivals(seen) / seen * size
        capacity = setup.load_test.requests_per_second
        price = setup.resolved.gpu.price
        return Spike(
            name=record.id,
            model=pool.model,
            starts_at=record.starts_at,
            ends_at=record.ends_at,
            running=metrics.replicas,
            needed=setup.limited(math.ceil(self._headroom * rate / capacity - 1e-9)),
            requests_per_second=rate,
            replica_requests_per_second=capacity,
            patience_seconds=pool.ttft_seconds or record.ends_at - record.starts_at,
            start_up=setup.start_up,
            dollars_per_replica_hour=None if price is None else price.dollars_per_gpu_hour * pool.deployment().gpus,
        )


SPEC = PolicySpec(
    "preload",
    "observed demand, and loaded before announced events",
    Preloading,
    Knob("margin seconds", 60.0, (0.0, 60.0, 120.0, 300.0, 600.0, 1200.0)),
    needs=CALENDAR,
    beside=reactive.SPEC.name,
)
