"""The nouns of advice: one step of the engine in, forecasts, recommendations and alerts out."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.alerts.types import Alert
from pipeline.forecast.calendar.known import CalendarChange
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.forecast.outlook import Outlook
from pipeline.forecast.types import Forecast, Score
from pipeline.windows.fleet import FleetReport
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Recommendation
from sizing.usage_cost import Usage

__all__ = ["Reading", "ReplicaUse", "RevisionInput", "Scorecard", "StepInput", "StepOutput", "TenantDemand"]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """How good past advice on one pool was, over a span (1d, 7d, 30d) of event time.

    ``scored`` pieces of advice had their time come; of these ``too_low_ratio`` were fewer and ``too_high_ratio`` more
    replicas than the demand that came needed, and of those that were not held ``interval_coverage_ratio`` had the need
    in [lower, upper] (None: all were held). ``under_replica_hours`` and ``over_replica_hours`` add up to the regret;
    ``unserved_requests`` are those beyond what the advised replicas carry. ``followed_ratio`` is the share of advice to
    go up whose replicas were running, starting ones included, when its time came, and ``lead_time_met_ratio`` the share
    of those that were followed in which all of them served by then (None: no such advice, or the fleet does not
    report).
    """

    model: str
    pool: str
    span: str
    scored: int
    too_low_ratio: float
    too_high_ratio: float
    interval_coverage_ratio: float | None
    under_replica_hours: float
    over_replica_hours: float
    unserved_requests: float
    followed_ratio: float | None
    lead_time_met_ratio: float | None


@dataclass(frozen=True, slots=True)
class ReplicaUse:
    """What a pool served over a span (1h, 1d, 30d) of event time, and the replica-hours for it.

    ``advised`` is with the replicas that were advised, ``ran`` with those that the fleet reported, over the time in
    which it did (None: never); ``advised_while_ran_replica_hours`` were advised in that time. ``peak_replicas`` are
    the most that were advised in the span; None but for the longest.
    """

    model: str
    pool: str
    span: str
    advised: Usage
    ran: Usage | None
    advised_while_ran_replica_hours: float
    peak_replicas: int | None


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

    ``calendar`` holds the announced events that became known, changed or were taken back since the step before,
    ``exogenous`` the rows from outside that became known.
    """

    as_of: int
    windows: tuple[ClosedWindow, ...]
    calendar: tuple[CalendarChange, ...] = ()
    exogenous: tuple[ExogenousRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the fleet of one pool has reported by the time of a revision.

    The fields are those of a closed window: ``fleet.counted`` counts around, inside and after the newest closed window,
    up to the newest report. None: not known, or too old.
    """

    key: PoolKey
    fleet: FleetReport | None
    current_replicas: int | None
    ready_replicas: int | None


@dataclass(frozen=True, slots=True)
class RevisionInput:
    """What fleets have reported between two steps: at most one reading per pool.

    ``as_of`` (epoch seconds of event time) lies between the step that it follows, ``after``, and the next one: it is
    the time of the reports less the allowed lateness. ``after`` None: no window has closed yet.
    """

    as_of: int
    after: int | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step says. ``alerts`` holds the episodes that began, changed or ended in this step.

    ``calendar`` and ``exogenous`` repeat what the step was given. ``outlooks`` are the newest hourly and daily
    forecasts of the pools of the step, said again in every step until an hour has brought newer ones. ``tenants`` are
    those of pools that are forecast by tenant. ``scorecards`` say how good past advice on the pools was,
    ``uses`` what their replicas served.

    A revision says only the recommendations that it raised; ``readings`` are those that raised them.
    """

    as_of: int
    windows: tuple[ClosedWindow, ...] = ()
    forecasts: tuple[Forecast, ...] = ()
    scores: tuple[Score, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    alerts: tuple[Alert, ...] = ()
    outlooks: tuple[Outlook, ...] = ()
    calendar: tuple[CalendarChange, ...] = ()
    tenants: tuple[TenantDemand, ...] = ()
    exogenous: tuple[ExogenousRow, ...] = ()
    scorecards: tuple[Scorecard, ...] = ()
    uses: tuple[ReplicaUse, ...] = ()
    readings: tuple[Reading, ...] = ()
