"""The spike conditions of one pool, in words: what is observed, what is ahead, what has fallen away. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pipeline.alerts.episodes import Condition
from pipeline.alerts.feedback import Verdict
from pipeline.alerts.spikes.attribution import UNITS
from pipeline.alerts.spikes.cause import ObservedDrop, ObservedSpike, SpikeWatch
from pipeline.alerts.spikes.early_warning import ForecastWatch, Outlook
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import Forecast, Signal
from pipeline.windows.types import ClosedWindow, PoolKey
from sizing.types import Constraint, Recommendation
from sizing.wording import words

__all__ = ["SpikeAlerts"]

#: An observed spike was foreseen if a warning stood this long before, at most.
_FORESEEN_SECONDS = 1800.0
#: ... or this long, where an announced event was named in the warning.
_FORESEEN_EVENT_SECONDS = 7200.0
#: Demand over capacity from which an observed spike is critical.
_CRITICAL_LOAD = 1.1


class SpikeAlerts:
    """The spike conditions of one pool, and its drops. Pickles, and continues identically afterwards."""

    def __init__(self, key: PoolKey, false_alerts_per_day: float, probability: float, grain_seconds: float) -> None:
        self._name = f"{key.model}/{key.pool}"
        self._watch = SpikeWatch(false_alerts_per_day, grain_seconds)
        self._ahead = ForecastWatch(grain_seconds, probability)
        self._previous: dict[Signal, tuple[Forecast, ...]] = {}
        self._warned_at: float | None = None  # when the last warning began ...
        self._warned_last: float | None = None  # ... and when it stood for the last time
        self._warned_of: CalendarRecord | None = None
        self._warning = False

    def mark(self, raised_at: float, verdict: Verdict) -> None:
        """Take what an operator says of the spike that was raised at ``raised_at`` (epoch seconds)."""
        self._watch.mark(raised_at, verdict)

    def step(
        self,
        window: ClosedWindow,
        rates: dict[str, float | None],
        issued: Mapping[Signal, tuple[Forecast, ...]],
        recommendation: Recommendation | None,
        replicas: int | None,
        calendar: Sequence[CalendarRecord] = (),
        *,
        warm: bool,
    ) -> tuple[Condition | None, Condition | None, Condition | None]:
        """Return what is observed, what is ahead, and the drop in demand after ``window``.

        ``issued`` are the forecasts made with this window, ``replicas`` those in place; nothing is foretold before the
        forecasters are ``warm``, in a telemetry gap, or once the spike is there.
        """
        capacity = _capacity(recommendation, replicas)
        rate = rates[Signal.REQUESTS]
        seen = self._watch.observe(window, rates, self._previous, calendar)
        observed = None if seen is None else self._observed(window, seen, rate, capacity, replicas, recommendation)
        outlook = None
        if seen is None and rate is not None and warm:
            outlook = self._ahead.look(issued[Signal.REQUESTS], capacity, calendar, active=self._warning)
        if outlook is not None:
            if not self._warning:
                self._warned_at, self._warned_of = float(window.end), outlook.event
            self._warned_last = float(window.end)
        self._warning = outlook is not None
        ahead = None if outlook is None else self._foretold(outlook, capacity, replicas, recommendation)
        if rate is not None:
            self._ahead.learn(rate)
        self._previous = dict(issued)
        drop = self._watch.drop
        return observed, ahead, None if drop is None else self._dropped(window, drop, rate)

    def _dropped(self, window: ClosedWindow, drop: ObservedDrop, rate: float | None) -> Condition:
        state = drop.state
        times = "" if state.ratio is None else f", {state.ratio:.2f} times the recent level"
        fell = "" if rate is None else f" to {rate:,.1f} requests/s"
        return Condition(
            onset_at=float(window.start),
            severity="warning",
            ratio=state.ratio,
            probability=None,
            message=f"{self._name}: demand fell{fell}{times}; no forecast showed it; evidence: {drop.evidence}",
            worse=state.news and not state.began,
            falls=True,
        )

    def _observed(
        self,
        window: ClosedWindow,
        seen: ObservedSpike,
        rate: float | None,
        capacity: float | None,
        replicas: int | None,
        recommendation: Recommendation | None,
    ) -> Condition | None:
        state = seen.state
        began = float(window.end) if state.started_at is None else state.started_at
        warned = None if self._warned_at is None else began - self._warned_at
        reach = _FORESEEN_SECONDS if self._warned_of is None else _FORESEEN_EVENT_SECONDS
        lasted = None if self._warned_last is None else began - self._warned_last
        foreseen = lasted is not None and 0 <= lasted <= reach
        load = rate / capacity if rate is not None and capacity else None
        short = load is not None and load >= _CRITICAL_LOAD
        onset = began - float(window.end - window.start)  # the start of the first window that it was seen in
        text = f"{self._name}: {_rise(seen, rate)}, since {_clock(onset)} (cause: {words(seen.cause.kind)})"
        text += f"; warned of {warned / 60:.0f} min before" if foreseen and warned else "; no forecast showed it"
        if load is not None and capacity is not None:
            text += f"; the replicas in place hold {capacity:,.1f} requests/s, and demand is {load:.0%} of that"
        text += f"{_to_do(replicas, recommendation)}; evidence: {seen.cause.evidence}"
        return Condition(
            onset_at=float(window.start),
            severity="critical" if short else "info" if foreseen else "warning",
            ratio=state.ratio,
            probability=None,
            message=text,
            worse=state.news and not state.began,
        )

    def _foretold(
        self, outlook: Outlook, capacity: float | None, replicas: int | None, recommendation: Recommendation | None
    ) -> Condition:
        level = self._ahead.level or outlook.median
        text = (
            f"{self._name}: {outlook.median:,.1f} requests/s expected in {outlook.horizon_seconds // 60} min, at "
            f"{_clock(outlook.target_at)} (p90 {outlook.upper:,.1f}), {outlook.median / level:.1f} times the level "
            "of now"
        )
        if outlook.event is not None:
            text += f"; announced event {outlook.event.kind!r} ({outlook.event.id})"
        if outlook.short_horizon_seconds is not None and capacity is not None:
            enough = " and are expected to suffice" if outlook.severity == "info" else ""
            text += (
                f"; the {replicas:,} replicas in place hold {capacity:,.1f} requests/s{enough}: the probability of too "
                f"few in {outlook.short_horizon_seconds // 60} min is {outlook.probability:.0%}, the expected "
                f"shortfall {outlook.shortfall:.0%} of their capacity"
            )
        return Condition(
            onset_at=outlook.target_at,
            severity=outlook.severity,
            ratio=outlook.ratio,
            probability=outlook.probability,
            message=text + _to_do(replicas, recommendation),
        )


def _rise(seen: ObservedSpike, rate: float | None) -> str:
    state = seen.state
    times = "" if state.ratio is None else f", {state.ratio:.1f} times the recent level"
    if seen.signal is Signal.REQUESTS:
        return "demand rose" + (f" to {rate:,.1f} requests/s" if rate is not None else "") + times
    value = state.ratio * state.level if state.ratio is not None and state.level else state.peak or 0.0
    return f"demand rose to {value:,.0f} {UNITS[seen.signal]}{times}"


def _capacity(recommendation: Recommendation | None, replicas: int | None) -> float | None:
    each = recommendation.evidence.get("capacity_requests_per_second_per_replica") if recommendation else None
    return each * replicas if each and replicas else None


def _to_do(replicas: int | None, recommendation: Recommendation | None) -> str:
    """What helps, by the newest advice; nothing is said where there is none, or where it is not known what runs."""
    if recommendation is None:
        return ""
    if recommendation.constraint is Constraint.SLO_INFEASIBLE:
        return "; more replicas will not help: the latency objective cannot be held at any number of them"
    if replicas is None:
        return ""
    missing = recommendation.desired - replicas
    if missing <= 0:
        return f"; to do: nothing, {recommendation.desired} replicas are advised and {replicas} run"
    added = "1 replica" if missing == 1 else f"{missing} replicas"
    return f"; to do: add {added}, {recommendation.desired} are advised and {replicas} run"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")
