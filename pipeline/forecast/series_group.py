"""Several series on one grid, all horizons: learn a closed window, issue quantiles, in one pass of NumPy.

The numbers are those of each series alone, bit for bit: nothing that is computed together mixes series.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.calendar.effects import CalendarEffects, CalendarRecord
from pipeline.forecast.circumstances import Circumstances
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.delay import DelayRing, which
from pipeline.forecast.exogenous.known import NOTHING, Exogenous
from pipeline.forecast.expert_pool import ExpertPool
from pipeline.forecast.experts import Expert, LeastSquares, default_experts
from pipeline.forecast.quantile_bands import QUANTILES, WIDTH, QuantileBands
from pipeline.forecast.scoring import RunningScores
from pipeline.forecast.series_rows import SeriesRows
from pipeline.forecast.silence import SilenceGuard
from pipeline.forecast.types import Forecast, Score, SeriesKey

__all__ = ["MAX_VALUE", "SeriesGroup"]

#: Values beyond this are not demand but broken telemetry.
MAX_VALUE = 1e15


class SeriesGroup:
    """Online quantile forecasts of several series on a grid of windows of ``grain_seconds``.

    Deterministic and picklable: the same windows give the same forecasts, also when it was pickled in between.

    Args:
        series: what is forecast, at least one; each is copied into its forecasts.
        horizons_seconds: how far ahead, ascending multiples of the grain.
        grain_seconds: width of a window.
        season_seconds: the cycle to learn (a day), a multiple of the grain.
        experts: makes the experts over a context; the first must be the last value.
        suspect_silence: whether a busy series that reads exactly zero is suspected of missing telemetry; not where the
            caller can tell, by the count of requests, and says None.
        signal_count: number of signals from outside that every step is given, the same for all series.

    Raises:
        ValueError: horizons, grain and season do not fit together, or there are no series.
    """

    def __init__(
        self,
        series: Sequence[SeriesKey],
        horizons_seconds: Sequence[int],
        grain_seconds: float,
        season_seconds: float = 86_400,
        experts: Callable[[SeriesContext], Sequence[Expert]] = default_experts,
        *,
        suspect_silence: bool = True,
        signal_count: int = 0,
    ) -> None:
        if not series:
            raise ValueError("there must be a series")
        if not grain_seconds > 0 or not math.isfinite(grain_seconds):
            raise ValueError(f"grain_seconds must be positive, not {grain_seconds}")
        if any(horizon % grain_seconds for horizon in (*horizons_seconds, season_seconds)):
            raise ValueError(f"horizons and season must be multiples of the grain of {grain_seconds} s")
        self.series = tuple(series)
        self.horizons_seconds = tuple(int(horizon) for horizon in horizons_seconds)
        self.grain_seconds = grain_seconds
        steps = tuple(round(horizon / grain_seconds) for horizon in horizons_seconds)
        season_steps = round(season_seconds / grain_seconds)
        self.contexts = tuple(SeriesContext(steps, season_steps, grain_seconds, signal_count) for _ in series)
        self.silence = tuple(SilenceGuard(context) for context in self.contexts) if suspect_silence else ()
        made = [tuple(experts(context)) for context in self.contexts]
        LeastSquares.together(made)
        self._rows = SeriesRows(self.contexts)
        self.pool = ExpertPool(self._rows, [expert for members in made for expert in members])
        self._bands = QuantileBands(self._rows)
        self._ring = DelayRing(self._rows.steps, 1 + WIDTH + len(made[0]))
        self._scores = RunningScores(self._rows.steps.size, 2 * season_steps)
        # Each made when the first event is announced.
        self._effects: list[CalendarEffects | None] = [None] * len(made)
        self._circumstances = tuple(Circumstances() for _ in series)
        self._index: int | None = None

    def step(
        self,
        end: float,
        values: Sequence[float | None],
        calendar: Sequence[CalendarRecord] = (),
        exogenous: Sequence[Exogenous] = (),
    ) -> tuple[tuple[Forecast, ...], ...]:
        """Learn the windows that ended at ``end`` (epoch seconds) and issue forecasts of all series and horizons.

        ``values``, one a series, are rates over the window; None, not finite, negative or above ``MAX_VALUE`` is a gap:
        nothing is learned or scored, the bands widen. Windows between the previous ``end`` and this one that never came
        are gaps too. Before the first value of a series there is nothing to say of it: ``()``. With ``suspect_silence``
        a busy series that reads exactly zero is suspected of having fallen silent: such windows are scored, but nothing
        is learned until the silence has lasted.

        ``calendar`` are the events that are known now, in any order, those of other pools and times included; pass them
        in every step. Without any, ever, forecasts are bit for bit those of a forecaster without calendar.

        ``exogenous``, one a series, is what is known from outside at ``end``: an external forecast, signals. Without
        any, nothing is.

        Raises:
            ValueError: ``end`` is not finite or not after the previous one, or ``values`` or ``exogenous`` are not one
                per series.
        """
        if not math.isfinite(end):
            raise ValueError(f"end must be finite, not {end}")
        index = round(end / self.grain_seconds)
        if self._index is not None and index <= self._index:
            raise ValueError(f"window ending at {end} is not after the one that was learned last")
        if len(values) != len(self.series):
            raise ValueError(f"{len(self.series)} series need as many values, not {len(values)}")
        outside = exogenous or (NOTHING,) * len(self.series)
        if len(outside) != len(self.series):
            raise ValueError(f"{len(self.series)} series need as many exogenous inputs, not {len(outside)}")
        for context, of_series in zip(self.contexts, outside, strict=True):
            context.external, context.signals = of_series
        usable = [float(value) if value is not None and 0.0 <= value <= MAX_VALUE else None for value in values]
        begun = [
            at
            for at, (context, value) in enumerate(zip(self.contexts, usable, strict=True))
            if context.seen or value is not None
        ]
        if not begun:
            return ((),) * len(self.series)
        self._index = index
        suspected = self._look_at(index, end, usable, calendar, begun)
        if suspected:
            self._score_only(index, end, suspected)
        each = len(self.pool.experts) // len(self.series)
        for at in begun:
            self.contexts[at].push(index, usable[at])
        for at in begun:
            for expert in self.pool.experts[at * each : (at + 1) * each]:
                expert.learn_one(usable[at])
        known = None
        if None in usable:
            known = self._rows.repeat([value is not None for value in usable], np.bool_)
        if known is None or known.any():
            self._learn(index, end, usable, values, known)
        point, spread, apart = self.pool.forecast()
        quantiles, waiting = self._bands.issue(point, spread)
        if known is None or known.any():
            self._ring.put(index, point, np.concatenate((waiting, apart), axis=1), known)
        return self._told(index, end, quantiles, begun, suspected)

    def apart(self, at: int) -> SeriesGroup:
        """Return a copy of series number ``at`` as a group of its own, which goes on as the series goes on here."""
        other = copy.deepcopy(self)
        rows = self._rows.of(at)
        other.series, other.contexts = (self.series[at],), (other.contexts[at],)
        other.silence = other.silence[at : at + 1]
        other._rows = other._rows.only(at)
        other.pool.keep(at)
        other._bands.keep(at)
        other._ring.keep(rows)
        other._scores.keep(rows)
        other._effects, other._circumstances = [other._effects[at]], (other._circumstances[at],)
        return other

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts have been, per series and horizon, over about two seasons."""
        return self._scores.report(self.series, self.horizons_seconds, self.pool.regret())

    def _look_at(
        self,
        index: int,
        end: float,
        usable: list[float | None],
        calendar: Sequence[CalendarRecord],
        begun: Sequence[int],
    ) -> list[int]:
        """Take out of ``usable`` what announced events add, and suspected zeros; return which series those are."""
        suspected = []
        for at in begun:
            context, value = self.contexts[at], usable[at]
            if context.seen and index > context.index + 1:
                context.skip(index - context.index - 1, index - 1)
            if self.silence and self.silence[at].suspects(value):
                suspected.append(at)
            effects = self._follow(at, calendar, end)
            if effects is not None and value is not None:
                usable[at] = min(value * math.exp(-effects.log_multiplier(end)), MAX_VALUE)
            if suspected and suspected[-1] == at:
                usable[at] = None
        return suspected

    def _follow(self, at: int, calendar: Sequence[CalendarRecord], end: float) -> CalendarEffects | None:
        effects = self._effects[at]
        if calendar and effects is None:
            effects = self._effects[at] = CalendarEffects(self.contexts[at].steps, self.grain_seconds)
        if effects is not None:
            effects.set(calendar, self.series[at], end)
        return effects

    def _learn(
        self,
        index: int,
        end: float,
        usable: Sequence[float | None],
        values: Sequence[float | None],
        known: NDArray[np.bool_] | None,
    ) -> None:
        """Learn ``usable``: ``values`` without the effect of announced events; ``known`` are the rows that have one."""
        issued, matured = self._ring.take(index)
        if known is not None:
            matured &= known
        heard = self._rows.any(matured)
        if True not in heard:
            return
        point, bands = issued[:, :1], issued[:, 1 : 1 + WIDTH]
        miss = self._rows.repeat([value or 0.0 for value in usable], np.float32)[:, None] - point
        above: NDArray[np.floating] = self._bands.learn(point, miss, bands, matured)
        scored = list(usable)
        nearest = slice(None, None, self._rows.horizons)
        highs = list(point[nearest, 0] + bands[nearest, -1])
        affected = [at for at, effects in enumerate(self._effects) if effects is not None and heard[at]]
        if affected:
            above = self._above_with_effects(index, point, bands, matured, above, values, affected, highs)
            for at in affected:
                scored[at] = values[at]
        told = [
            self._circumstances[at].learn(self.contexts[at], end, value, highs[at])
            if heard[at] and value is not None
            else (False, False)
            for at, value in enumerate(scored)
        ]
        at_rows = which(matured)
        busy, after = np.array(told).repeat(self._rows.horizons, axis=0).T
        y = self._rows.repeat([value or 0.0 for value in scored])
        self._scores.learn(y[at_rows], above, matured, busy[at_rows], after[at_rows])
        for at in affected:
            effects, value, rows = self._effects[at], usable[at], self._rows.of(at)
            if effects is not None and value is not None:
                effects.learn(end, value, point[rows, 0].tolist(), matured[rows])
        self.pool.learn(miss, issued[:, 1 + WIDTH :], matured)

    def _above_with_effects(
        self,
        index: int,
        point: NDArray[np.float32],
        bands: NDArray[np.float32],
        matured: NDArray[np.bool_],
        above: NDArray[np.floating],
        values: Sequence[float | None],
        affected: Sequence[int],
        highs: list[float],
    ) -> NDArray[np.float64]:
        """The values minus the quantiles as they were told, of matured rows; sets ``highs`` of the affected series."""
        found: NDArray[np.float64] = np.zeros((matured.size, above.shape[1]))
        found[matured] = above
        for at in affected:
            rows, value = self._rows.of(at), values[at]
            quantiles = self._quantiles_told(at, index, point, bands)
            found[rows] = (0.0 if value is None else value) - quantiles
            highs[at] = float(quantiles[0, -1])
        return found[matured]

    def _quantiles_told(
        self, at: int, index: int, point: NDArray[np.float32], bands: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """The quantiles of series ``at`` as they were issued for window ``index``, ``(horizons, levels)``."""
        rows, effects = self._rows.of(at), self._effects[at]
        quantiles = np.add(point[rows], bands[rows, QUANTILES:], dtype=np.float64)
        if effects is not None:
            quantiles *= np.exp(effects.issued(index))[:, None]
        return quantiles

    def _score_only(self, index: int, end: float, suspected: Sequence[int]) -> None:
        """Score what was issued for suspected zeros; nothing else may learn from it."""
        issued, existing = self._ring.take(index)
        for at in suspected:
            matured = np.zeros_like(existing)
            matured[self._rows.of(at)] = existing[self._rows.of(at)]
            if matured.any():
                quantiles = self._quantiles_told(at, index, issued[:, :1], issued[:, 1 : 1 + WIDTH])
                above = -quantiles[matured[self._rows.of(at)]]
                after = end <= self._circumstances[at].spiked_until
                self._scores.learn(0.0, above, matured, False, after)

    def _told(
        self, index: int, end: float, quantiles: NDArray[np.float64], begun: Sequence[int], suspected: Sequence[int]
    ) -> tuple[tuple[Forecast, ...], ...]:
        """The forecasts of every series."""
        for at in begun:
            rows, effects = self._rows.of(at), self._effects[at]
            if effects is not None:
                quantiles[rows] *= np.exp(effects.issue(index, end))[:, None]
            if at in suspected:
                quantiles[rows] = self.silence[at].mixed(quantiles[rows])
        told: list[tuple[Forecast, ...]] = [()] * len(self.series)
        numbers = quantiles.tolist()
        for at in begun:
            series, first = self.series[at], at * self._rows.horizons
            told[at] = tuple(
                [
                    Forecast(series, end, horizon, tuple(numbers[row]))
                    for row, horizon in enumerate(self.horizons_seconds, first)
                ]
            )
        return tuple(told)
