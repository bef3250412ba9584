"""Heavy tenants as series of their own, everybody else as one, and sums that add up.

A sum of series with bursts of their own is forecast worse than its parts (ServeGen, arXiv:2505.09999: few clients rule
the demand of a model). At most ``limit`` tenants have a series; who they are is told by decayed counts (``heavy``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.exogenous.known import NOTHING, Exogenous
from pipeline.forecast.experts import Expert, default_experts
from pipeline.forecast.heavy import HeavyHitters
from pipeline.forecast.scoring import RunningScores
from pipeline.forecast.series import GroupMember, SeriesForecaster
from pipeline.forecast.types import LEVELS, Forecast, Score, SeriesKey
from pipeline.windows.types import REST

__all__ = ["TenantForecaster", "TenantForecasts"]

_MEDIAN = LEVELS.index(0.5)
_COUNTERS = 64
_ENTER, _LEAVE = 0.05, 0.02
_ERROR_RATE = 0.02
_LITTLE = 0.5
_MAX_RATE = 1e15


@dataclass(frozen=True, slots=True)
class TenantForecasts:
    """Forecasts of the heavy tenants, of the rest (``REST``) and of their total; medians of the parts add up to it."""

    parts: dict[str, tuple[Forecast, ...]]
    total: tuple[Forecast, ...]


class _Issued(NamedTuple):
    """What waits for its label: the total's own median, the sum of the parts' (None: no parts), and what was said."""

    alone: float
    together: float | None
    quantiles: tuple[float, ...]


class TenantForecaster:
    """Forecasts by tenant. Deterministic, pure, picklable, bounded: ``limit`` + 2 series and 64 counters.

    A tenant gets a series when it sends more than a twentieth of the demand and there is room, and loses it below a
    fiftieth. While nobody has one, the total's is the only series. The total is the mean of its own forecast and of the
    sum of the parts, weighted by how small their past errors were, and the sum the more, the longer it has been tried;
    the parts are scaled to it.

    Args:
        series: of the total; the forecasts of the parts carry it, too.
        horizons_seconds: as for ``SeriesForecaster``.
        grain_seconds: as for ``SeriesForecaster``.
        limit: most tenants with a series.
        season_seconds: as for ``SeriesForecaster``.
        experts: as for ``SeriesForecaster``.
        signal_count: as for ``SeriesForecaster``.
        total: the forecaster of the total, where it is stepped together with others; its step is part of this one's.

    Raises:
        ValueError: horizons, grain and season do not fit.
    """

    def __init__(
        self,
        series: SeriesKey,
        horizons_seconds: Sequence[int],
        grain_seconds: float,
        limit: int = 8,
        season_seconds: float = 86_400,
        experts: Callable[[SeriesContext], Sequence[Expert]] = default_experts,
        signal_count: int = 0,
        total: GroupMember | None = None,
    ) -> None:
        self.series = series
        self._horizons = tuple(horizons_seconds)
        self._grain = grain_seconds
        self._limit = limit
        self._season = season_seconds
        self._experts = experts
        self._signal_count = signal_count
        self._heavy = HeavyHitters(_COUNTERS, 86_400.0 / grain_seconds)
        self._total: SeriesForecaster | GroupMember = total or self._make()
        self._parts: dict[str, SeriesForecaster] = {}
        self._rest: SeriesForecaster | None = None  # only while somebody else has a series
        # Mean absolute errors of the total's own forecast and of the sum, per horizon, over how many labels, and what
        # waits for its label.
        self._errors = [[0.0, 0.0] for _ in self._horizons]
        self._tried = [0] * len(self._horizons)
        self._waiting: dict[tuple[int, int], _Issued] = {}
        self._scores = RunningScores(len(self._horizons), 2 * round(season_seconds / grain_seconds))

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who has a series now."""
        return tuple(self._parts)

    def step(
        self,
        end: float,
        total: float | None,
        named: Mapping[str, float] | None,
        calendar: Sequence[CalendarRecord] = (),
        exogenous: Exogenous = NOTHING,
    ) -> TenantForecasts:
        """Learn the window that ended at ``end`` and forecast.

        Args:
            end: epoch seconds.
            total: the rate of all tenants; None: telemetry is missing.
            named: rates of the heaviest tenants of the window; whoever is not named is in the rest, and counts as 0.
                None: it is not known who sent what.
            calendar: as for ``SeriesForecaster.step``.
            exogenous: as for ``SeriesForecaster.step``; an external forecast is of the total, the parts have none.

        Raises:
            ValueError: ``end`` is not after the previous one.
        """
        usable = total is not None and 0.0 <= total <= _MAX_RATE
        known = None
        if usable and total is not None and named is not None:
            known = {name: rate for name, rate in named.items() if name != REST and 0.0 <= rate <= _MAX_RATE}
            self._heavy.learn(known, total - sum(known[name] for name in sorted(known)))
            self._choose()
        own = self._total.step(end, total, calendar, exogenous)
        if not own:
            return TenantForecasts({}, ())
        of_parts = exogenous._replace(external=None)
        said: dict[str, tuple[Forecast, ...]] = {}
        rest = total if usable else None
        for name, model in self._parts.items():
            rate = None if known is None else known.get(name, 0.0)
            said[name] = model.step(end, rate, calendar, of_parts)
            rest = None if rest is None or rate is None else max(0.0, rest - rate)
        said[REST] = own if self._rest is None else self._rest.step(end, rest, calendar, of_parts)
        if usable and total is not None:
            self._judge(end, total)
        return self._reconcile(end, own, said, scored=usable)

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts of the total have been, per horizon; not told apart by circumstances."""
        return self._scores.report((self.series,), self._horizons, self._total.regret())

    def _make(self) -> SeriesForecaster:
        # Whether telemetry is missing is judged by the pool: a tenant that sends nothing has stopped.
        return SeriesForecaster(
            self.series,
            self._horizons,
            self._grain,
            self._season,
            self._experts,
            suspect_silence=False,
            signal_count=self._signal_count,
        )

    def _choose(self) -> None:
        shares = self._heavy.shares()
        for name in self.tenants:
            if shares.get(name, 0.0) < _LEAVE:
                del self._parts[name]
        for name, share in shares.items():
            if share < _ENTER or len(self._parts) >= self._limit:
                break
            if name not in self._parts:
                self._parts[name] = self._make()
        if not self._parts:
            self._rest = None
        elif self._rest is None:
            taken = sum(shares[name] for name in self._parts)
            # Where little is taken away, what is left goes on as it was.
            self._rest = self._total.apart() if taken < _LITTLE else self._make()
            self._errors = [[0.0, 0.0] for _ in self._horizons]
            self._tried = [0] * len(self._horizons)

    def _judge(self, end: float, total: float) -> None:
        matured = np.zeros(len(self._horizons), dtype=np.bool_)
        above = []
        for at, errors in enumerate(self._errors):
            waited = self._waiting.pop((at, round(end)), None)
            if waited is not None:
                if waited.together is not None:
                    self._tried[at] += 1
                    for which, point in enumerate((waited.alone, waited.together)):
                        errors[which] += _ERROR_RATE * (abs(total - point) - errors[which])
                matured[at] = True
                above.append([total - value for value in waited.quantiles])
        if above:
            self._scores.learn(total, np.array(above), matured)
        # Labels that never came.
        oldest = round(end)
        if len(self._waiting) > 2 * sum(round(horizon / self._grain) for horizon in self._horizons):
            self._waiting = {key: value for key, value in self._waiting.items() if key[1] > oldest}

    def _reconcile(
        self, end: float, own: tuple[Forecast, ...], said: dict[str, tuple[Forecast, ...]], *, scored: bool
    ) -> TenantForecasts:
        parts: dict[str, list[Forecast]] = {name: [] for name, issued in said.items() if issued}
        totals: list[Forecast] = []
        for at, forecast in enumerate(own):
            median = forecast.quantiles[_MEDIAN]
            added = sum(said[name][at].quantiles[_MEDIAN] for name in parts)
            alone, together = self._errors[at]
            share = _share_of(together, alone)
            share *= 1.0 - (1.0 - _ERROR_RATE) ** self._tried[at]
            point = median + share * (added - median) if parts else median
            totals.append(_moved(forecast, point))
            if scored:  # what was said in a gap is nobody's merit
                waits = _Issued(median, added if self._parts else None, totals[-1].quantiles)
                self._waiting[at, round(end + forecast.horizon_seconds)] = waits
            for name, issued in parts.items():
                part = said[name][at]
                scaled = part.quantiles[_MEDIAN] * (point / added) if added > 0.0 else point / len(parts)
                issued.append(_moved(part, scaled))
        return TenantForecasts({name: tuple(issued) for name, issued in parts.items()}, tuple(totals))


def _moved(forecast: Forecast, median: float) -> Forecast:
    """The forecast around another median, its distances kept; not below zero."""
    move = median - forecast.quantiles[_MEDIAN]
    quantiles = tuple(max(0.0, value + move) for value in forecast.quantiles)
    exact = (*quantiles[:_MEDIAN], median, *quantiles[_MEDIAN + 1 :])
    return Forecast(forecast.series, forecast.issued_at, forecast.horizon_seconds, exact)


def _share_of(error: float, other: float) -> float:
    """The weight of a forecast with this error beside another one: by the inverse squares, which must not underflow."""
    worst = max(error, other)
    if worst <= 0.0:
        return 0.0
    own, others = (error / worst) ** 2, (other / worst) ** 2  # one of them is 1
    return others / (own + others)
