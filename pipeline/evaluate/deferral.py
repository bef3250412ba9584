"""A trace in which part of the requests may wait: released by earliest deadline first against forecasts of the rest.

What is known at each step is what had come by then: the urgent requests of the steps before, forecast by the pipeline's
own experts (minutes to an hour ahead, hours to a day ahead), and the deferred ones that wait. Nothing is looked up in
the future.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.demand_ahead import demand_path
from pipeline.errors import InputError
from pipeline.evaluate.policies.base import Setup
from pipeline.evaluate.trace import RequestTrace
from pipeline.forecast.outlook import OutlookForecaster
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey, Signal
from sizing.planning.deferral import DeferralQueue
from sizing.simulate import Requests

__all__ = ["Deferral", "DeferralOutcome", "deferred_trace"]

Floats = NDArray[np.float64]

_HORIZONS = (60, 300, 900, 1800, 3600)
_DAY = 86_400
#: Deadlines beyond what hours are forecast for are planned as if they were so near.
_MOST_DEADLINE_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Deferral:
    """``share`` of the requests, drawn by the seed, may wait until ``deadline_seconds`` after they came.

    ``quantile`` of the forecast of the urgent demand is what valleys are measured against. Above the median the
    present, which is known, looks like a valley beside the hours to come, and little is moved.
    """

    share: float
    deadline_seconds: float
    quantile: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"the share of requests that may wait must be between 0 and 1, not {self.share!r}")
        if not 0 < self.deadline_seconds <= _MOST_DEADLINE_SECONDS:
            raise InputError(f"a deadline must be up to a day, not {self.deadline_seconds:,.0f} s")
        if self.quantile not in LEVELS:
            raise InputError(f"the quantile must be one of {', '.join(f'{level:g}' for level in LEVELS)}")


@dataclass(frozen=True, slots=True)
class DeferralOutcome:
    """What became of the requests that may wait; seconds are from their arrival to their release.

    ``late`` were released after their deadline, ``forced`` because they were due and not because there was room.
    """

    deferred: int
    late: int
    forced: int
    wait_mean_seconds: float
    wait_max_seconds: float


def deferred_trace(
    trace: RequestTrace, setup: Setup, deferral: Deferral, seed: int
) -> tuple[RequestTrace, DeferralOutcome]:
    """Return the trace with the deferred requests at the times of their release, and what became of them.

    ``setup`` is that of the trace: its load test says what a replica carries. Work of a request is its tokens over the
    mean, in seconds of a replica.

    Raises:
        InputError: no request is drawn to be deferred, or none is left.
    """
    requests = trace.requests
    chosen = np.random.default_rng(seed).random(len(requests)) < deferral.share
    if not chosen.any() or chosen.all():
        raise InputError(f"{trace.name} has too few requests to defer {deferral.share:.0%} of them")
    tokens = (requests.input_tokens + requests.output_tokens).astype(np.float64)
    work = tokens / tokens.mean() / setup.load_test.requests_per_second
    released, forced = _released(requests.arrival_seconds, work, chosen, setup, deferral)
    waits = (released - requests.arrival_seconds)[chosen]
    moved = Requests.of(released, requests.input_tokens, requests.output_tokens, requests.cached_tokens)
    outcome = DeferralOutcome(
        deferred=int(chosen.sum()),
        late=int((waits > deferral.deadline_seconds).sum()),
        forced=forced,
        wait_mean_seconds=float(waits.mean()),
        wait_max_seconds=float(waits.max()),
    )
    end = max(trace.end_seconds, float(released.max()))
    return RequestTrace(f"{trace.name}, {deferral.share:.0%} deferred", moved, end, trace.drawn), outcome


def _released(
    arrival: Floats, work: Floats, chosen: NDArray[np.bool_], setup: Setup, deferral: Deferral
) -> tuple[Floats, int]:
    """Return when each request is released, and how many only because they were due."""
    step = float(setup.settings.windows.grain_seconds)
    first = math.floor(arrival[0] / step) * step
    number = ((arrival - first) // step).astype(np.int64)
    steps = int(number[-1]) + 1
    urgent = np.bincount(number[~chosen], work[~chosen], steps) / step  # replicas, by step
    ahead = _Ahead(setup, step, deferral)
    queue = DeferralQueue()
    released = arrival.copy()
    order = np.flatnonzero(chosen)
    came = 0
    forced = 0
    at = 0
    while at < steps or came < len(order) or len(queue):
        now = first + at * step
        # What came in the step before waits now.
        while came < len(order) and arrival[order[came]] < now:
            job = int(order[came])
            queue.add(job, float(arrival[job]) + deferral.deadline_seconds - step, float(work[job]))
            came += 1
        lease = queue.lease(now, step, ahead.urgent(), spare_replicas=float(setup.pool.min_replicas))
        forced += lease.forced
        spread = np.arange(len(lease.jobs)) / max(len(lease.jobs), 1)  # evenly over the step
        released[list(lease.jobs)] = np.maximum(now + step * spread, released[list(lease.jobs)])
        ahead.learn(setup.epoch + now + step, float(urgent[at]) if at < steps else 0.0)
        at += 1
    return released, forced


class _Ahead:
    """Forecasts of the urgent demand in replicas, by step, as far as a deadline."""

    def __init__(self, setup: Setup, step: float, deferral: Deferral) -> None:
        series = SeriesKey(setup.pool.model, setup.pool.pool, Signal.REQUESTS)
        horizons = tuple(sorted({max(int(step), h // int(step) * int(step)) for h in _HORIZONS}))
        self._near = SeriesForecaster(series, horizons, step, float(_DAY), suspect_silence=False)
        self._far = OutlookForecaster([series])
        self._step = step
        self._at = step * (np.arange(max(1, math.ceil(deferral.deadline_seconds / step))) + 1)
        self._level = LEVELS.index(deferral.quantile)
        self._told: tuple[Forecast, ...] = ()
        self._now = 0.0

    def learn(self, end: float, replicas: float) -> None:
        """Learn the urgent demand of the step that ends at ``end`` (epoch seconds)."""
        self._now = end
        self._told = self._near.step(end, replicas)
        self._far.step(end, [replicas], self._step)

    def urgent(self) -> Floats | None:
        """The quantile by step from now; None before anything was learned."""
        if not self._told:
            return None
        return np.asarray(demand_path(self._told, self._far.outlooks[0], self._now, list(self._at), self._level))
