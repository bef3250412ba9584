"""Tokentide: the engine that runs live, fed with the windows of the simulated fleet; an autoscaler takes its advice."""

from __future__ import annotations

import math

from pipeline.engine.advisor import Advisor
from pipeline.engine.types import RevisionInput, StepInput
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup
from pipeline.evaluate.windows import WindowFeed
from pipeline.forecast.calendar.known import KnownCalendar
from sizing.types import Recommendation

__all__ = ["SPEC", "Tokentide"]

#: How often an autoscaler asks for the advice: the sync period of the Kubernetes HPA.
_ASKED_EVERY_SECONDS = 15.0


class Tokentide:
    """Windows and reports in, advice out (``Advisor``); what has expired is not followed.

    ``knob``: under_to_over_cost.
    """

    interval_seconds = _ASKED_EVERY_SECONDS
    initial_replicas = None

    def __init__(self, setup: Setup, under_to_over_cost: float) -> None:
        pool = setup.pool.model_copy(update={"under_to_over_cost": under_to_over_cost})
        self._advisor = Advisor(setup.settings.model_copy(update={"pools": (pool,)}), setup.catalog)
        self._feed = WindowFeed(setup.settings, pool, setup.epoch)
        self._epoch = setup.epoch
        self._windows = setup.settings.windows
        self._revise_every_seconds = setup.settings.advise.revise_every_seconds
        self._revised_at: int | None = None
        self._announced = {record.id: record for record in setup.calendar}
        self._known = KnownCalendar()
        self.advice: Recommendation | None = None

    def decide(self, metrics: FleetMetrics) -> int:
        """Learn the windows that have closed and return what the newest advice says."""
        self._feed.report(metrics)
        while self._feed.due(metrics.now_seconds):
            window = self._feed.close(metrics)
            changes = self._known.changes(self._announced, window.end, complete=True)
            self._known.apply(changes, window.end)
            output = self._advisor.step(StepInput(window.end, (window,), changes))
            if output.recommendations:
                self.advice = output.recommendations[0]
        self._revise(metrics.now_seconds)
        advice = self.advice
        if advice is None or metrics.now_seconds + self._epoch >= advice.expires_at:
            return metrics.replicas
        return advice.desired

    def _revise(self, now_seconds: float) -> None:
        """Take what the reports raise between two windows, where it is time."""
        every, after = self._revise_every_seconds, self._advisor.as_of
        as_of = math.floor(self._epoch + now_seconds - self._windows.allowed_lateness_seconds)
        next_step = self._windows.grain_seconds + (self._epoch if after is None else after)
        newest = max((at for at in (after, self._revised_at) if at is not None), default=as_of - every)
        if not every or as_of < newest + every or as_of >= next_step:
            return
        self._revised_at = as_of
        output = self._advisor.revise(RevisionInput(as_of, after, (self._feed.reading(now_seconds),)))
        if output.recommendations:
            self.advice = output.recommendations[0]


SPEC = PolicySpec(
    "tokentide",
    "Tokentide",
    Tokentide,
    Knob("under_to_over_cost", None, (1.0, 3.0, 9.0, 19.0, 49.0, 99.0)),
)
