"""The simulated fleet's requests as the windows that live control would close, with what was known when they closed.

An event comes when its request ends and counts in the window of its arrival. A window closes the allowed lateness after
its end, plus the heartbeat that carries event time on; what ends later is late. The way is that of
``pipeline.stream.controller.window_closer``, with the same functions: fold, rollup, completeness, mean latencies.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.types import Reading
from pipeline.evaluate.metrics import FleetMetrics, ReportedRequests
from pipeline.events.columns import from_events
from pipeline.events.request_event import RequestEvent
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.windows import histogram
from pipeline.windows.completeness import (
    LATENCY_REFRESH_SECONDS,
    LATENCY_SPAN_SECONDS,
    completeness,
)
from pipeline.windows.fold import fold
from pipeline.windows.latencies import latency_counts, with_latencies
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window, rollup
from pipeline.windows.types import ClosedWindow, PoolKey

__all__ = ["WindowFeed", "request_events"]


class WindowFeed:
    """Closes the windows of one pool in order; ``epoch`` (a multiple of the grain) is second 0 of the simulation."""

    def __init__(self, settings: Settings, pool: PoolSettings, epoch: int) -> None:
        self._windows = settings.windows
        self._delay_seconds = settings.windows.allowed_lateness_seconds + settings.stream.heartbeat_seconds
        self._pool = pool
        self._epoch = epoch
        self._next = 0  # start of the next window, seconds of the simulation
        self._latency: dict[int, int] = {}
        self._latency_at: int | None = None
        self._book = ReplicaBook()
        self._oldest_report_seconds = settings.advise.replica_report_max_age_seconds
        self._objectives = {(pool.model, pool.pool): (pool.ttft_seconds, pool.tpot_seconds)}

    def report(self, metrics: FleetMetrics) -> None:
        """Note what the fleet reports of itself now, as its emitter would put it on the topic of replica reports."""
        status = ReplicaStatus(
            model=self._pool.model,
            pool=self._pool.pool,
            at=self._epoch + metrics.now_seconds,
            current=metrics.replicas,
            ready=metrics.ready,
            queued_requests=metrics.waiting,
            running_requests=metrics.running,
            requests_total=metrics.arrived,
        )
        self._book.add(status)

    def due(self, now_seconds: float) -> bool:
        """Whether the next window closes at ``now_seconds`` or earlier."""
        return now_seconds >= self._next + self._windows.grain_seconds + self._delay_seconds

    def close(self, metrics: FleetMetrics) -> ClosedWindow:
        """Close the next window with what has been reported; call it when it is due."""
        start, grain = self._next, self._windows.grain_seconds
        self._next += grain
        share = completeness(self._latencies(start, metrics), start, grain, start + grain + self._delay_seconds)
        model, pool = self._pool.model, self._pool.pool
        at = self._epoch + start
        reading = self._reading(at, at + grain + self._windows.allowed_lateness_seconds)
        events = request_events(metrics.reported(start, start + grain), model, pool, self._epoch)
        keys, rows, histograms = fold(from_events(events), self._objectives)
        found = rollup([(keys, rows)], grain)
        window = found[0] if found else closed_window(at, grain, model, pool, [0] * len(CLOSED_MEASURES))
        window = replace(
            window,
            completeness=share,
            current_replicas=reading.current_replicas,
            ready_replicas=reading.ready_replicas,
            fleet=reading.fleet,
            closed_after_seconds=self._delay_seconds,
        )
        told = latency_counts([(keys, rows, histograms)], grain)
        return with_latencies(window, told.get((at, model, pool), {}))

    def reading(self, now_seconds: float) -> Reading:
        """Return what the fleet has reported by ``now_seconds``, for the newest window that was closed.

        Before the first one has, for the first one.
        """
        start = max(self._next - self._windows.grain_seconds, 0)
        return self._reading(self._epoch + start, self._epoch + now_seconds)

    def _reading(self, at: int, until: float) -> Reading:
        """What is known at ``until`` of the fleet, for the window that begins ``at`` (epoch seconds)."""
        key, grain = PoolKey(self._pool.model, self._pool.pool), self._windows.grain_seconds
        report = self._book.report(key, until - grain, until, (at, at + grain))
        stale = report is None or until - report.reported_at > self._oldest_report_seconds
        newest = None if report is None or stale else report.counts[-1]
        if newest is None:
            return Reading(key, report, None, None)
        return Reading(key, report, newest.current, newest.ready)

    def _latencies(self, start: int, metrics: FleetMetrics) -> dict[int, int]:
        """Return the end-to-end latencies of the hour before, without the newest windows, which lack slow requests."""
        if self._latency_at is None or start - self._latency_at >= LATENCY_REFRESH_SECONDS:
            until = start - self._windows.allowed_lateness_seconds
            ended = metrics.reported(start - LATENCY_SPAN_SECONDS, until)
            seconds = ended.completed_seconds - ended.arrived_seconds
            buckets, counts = np.unique(histogram.bucket(seconds), return_counts=True)
            self._latency = dict(zip(buckets.tolist(), counts.tolist(), strict=True))
            self._latency_at = start
        return self._latency


def request_events(requests: ReportedRequests, model: str, pool: str, epoch: int) -> list[RequestEvent]:
    """Return the events that the servers of requests that have ended would send, in order of arrival."""
    columns = zip(
        requests.number.tolist(),
        (requests.arrived_seconds + epoch).tolist(),
        (requests.completed_seconds - requests.arrived_seconds).tolist(),
        requests.queue_seconds.tolist(),
        requests.ttft_seconds.tolist(),
        requests.input_tokens.tolist(),
        requests.cached_input_tokens.tolist(),
        requests.output_tokens.tolist(),
        requests.preemptions.tolist(),
        requests.replica.tolist(),
        requests.rejected.tolist(),
        requests.failed.tolist(),
        strict=True,
    )
    found = []
    for number, arrived, e2e, queue, ttft, prompt, cached, output, preemptions, replica, rejected, failed in columns:
        served = not (rejected or failed)
        event = RequestEvent(
            event_id=str(number),
            model=model,
            pool=pool,
            status="ok" if served else "rejected" if rejected else "error",
            arrived_at=arrived,
            completed_at=arrived + e2e,
            e2e_seconds=e2e,
            queue_seconds=_known(queue),
            ttft_seconds=_known(ttft),
            input_tokens=prompt,
            # What a lost request would have answered nobody knows.
            cached_input_tokens=cached if served else None,
            output_tokens=output if served else None,
            preemptions=preemptions,
            server_id=None if replica < 0 else f"replica-{replica}",
            engine="simulated",
        )
        found.append(event)
    return found


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
