"""Tokentide: the engine that runs live, fed with the windows of the simulated fleet; an autoscaler takes its advice."""

from __future__ import annotations

from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.policies.base import Knob, PolicySpec, Setup
from pipeline.evaluate.windows import WindowFeed
from pipeline.forecast.calendar.known import KnownCalendar
from sizing.types import Recommendation

__all__ = ["SPEC", "Tokentide"]

#: How often an autoscaler asks for the advice: the sync period of the Kubernetes HPA.
_ASKED_EVERY_SECONDS = 15.0


class Tokentide:
    """Windows in, advice out (``Advisor.step``); what has expired is not followed. ``knob``: under_to_over_cost."""

    interval_seconds = _ASKED_EVERY_SECONDS
    initial_replicas = None

    def __init__(self, setup: Setup, under_to_over_cost: float) -> None:
        pool = setup.pool.model_copy(update={"under_to_over_cost": under_to_over_cost})
        self._advisor = Advisor(setup.settings.model_copy(update={"pools": (pool,)}), setup.catalog)
        self._feed = WindowFeed(setup.settings, pool, setup.epoch)
        self._epoch = setup.epoch
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
        advice = self.advice
        if advice is None or metrics.now_seconds + self._epoch >= advice.expires_at:
            return metrics.replicas
        return advice.desired


SPEC = PolicySpec(
    "tokentide",
    "Tokentide",
    Tokentide,
    Knob("under_to_over_cost", None, (1.0, 3.0, 9.0, 19.0, 49.0, 99.0)),
)
