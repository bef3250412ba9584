"""What an alert is: one episode, of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Alert", "AlertKind"]


class AlertKind(StrEnum):
    """The kinds of alerts that other code names; the kind of an alert is the name of the rule that raised it."""

    SPIKE_OBSERVED = "spike_observed"
    SPIKE_FORECAST = "spike_forecast"
    SLO_INFEASIBLE = "slo_infeasible"
    TELEMETRY_GAP = "telemetry_gap"
    DEMAND_DROP = "demand_drop"
    KV_PRESSURE = "kv_pressure"


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode. The same ``alert_id`` is published again whenever the episode changes, and once when it ends.

    ``kind`` is the name of the rule that raised it: one of ``AlertKind``, or that of another rule.
    Times are event time in epoch seconds. ``raised_at`` is the end of the window that raised it; ``onset_at`` is when
    demand rose or fell (observed) or is expected to have risen (forecast). ``ratio`` is demand over the recent level
    (observed, drop) or over capacity (forecast; over the level of now where no capacity is known). ``probability`` is
    P(demand > capacity), the greatest from then up to 15 minutes ahead, where it applies. ``severity`` is ``info`` of
    spikes that the replicas in place hold.
    """

    alert_id: str
    kind: str
    model: str
    pool: str
    raised_at: float
    onset_at: float
    ended_at: float | None
    severity: str
    ratio: float | None
    probability: float | None
    message: str
