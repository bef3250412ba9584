"""The nouns of advice: one step of the engine in, forecasts, recommendations and alerts out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.forecast.known_calendar import CalendarChange
from pipeline.forecast.model import Forecast, Score
from pipeline.forecast.outlook import Outlook
from pipeline.windows.model import ClosedWindow
from sizing.model import Recommendation

__all__ = ["Alert", "AlertKind", "StepInput", "StepOutput", "TenantDemand"]


class AlertKind(StrEnum):
    """What an alert says. Append only."""

    SPIKE_OBSERVED = "spike_observed"
    SPIKE_FORECAST = "spike_forecast"
    SLO_INFEASIBLE = "slo_infeasible"
    TELEMETRY_GAP = "telemetry_gap"


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode. The same ``alert_id`` is published again whenever the episode changes, and once when it ends.

    Times are event time in epoch seconds. ``raised_at`` is the end of the window that raised it; ``onset_at`` is when
    demand rose (observed) or is expected to have risen (forecast). ``ratio`` is demand over the recent level
    (observed) or over capacity (forecast; over the level of now where no capacity is known). ``probability`` is
    P(demand > capacity), the greatest from then up to 15 minutes ahead, where it applies. ``severity`` is ``info`` of
    spikes that the replicas in place hold.
    """

    alert_id: str
    kind: AlertKind
    model: str
    pool: str
    raised_at: float
    onset_at: float
    ended_at: float | None
    severity: str
    ratio: float | None
    probability: float | None
    message: str


@dataclass(frozen=True, slots=True)
class TenantDemand:
    """What one tenant of a pool sends and will send; ``tenant`` ``*`` is all those without a series of their own.

    ``requests_per_second`` is of the newest window and ``share`` its share of the pool's; None: not known.
    ``forecasts`` are of the request rate and carry the pool's series.
    """

    model: str
    pool: str
    tenant: str
    requests_per_second: float | None
    share: float | None
    forecasts: tuple[Forecast, ...]


@dataclass(frozen=True, slots=True)
class StepInput:
    """All windows that closed at one instant: at most one per pool, all ending at ``as_of`` (epoch seconds).

    ``calendar`` holds the announced events that became known, changed or were taken back since the step before.
    """

    as_of: int
    windows: tuple[ClosedWindow, ...]
    calendar: tuple[CalendarChange, ...] = ()


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step says. ``alerts`` holds the episodes that began, changed or ended in this step.

    ``calendar`` repeats the changes that the step was given. ``outlooks`` are the newest hourly and daily forecasts of
    the pools of the step, said again in every step until an hour has brought newer ones. ``tenants`` are those of pools
    that are forecast by tenant.
    """

    as_of: int
    windows: tuple[ClosedWindow, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    scores: tuple[Score, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    alerts: tuple[Alert, ...] = ()
    errors: tuple[str, ...] = field(default=())
    outlooks: tuple[Outlook, ...] = ()
    calendar: tuple[CalendarChange, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()
