"""One series, all horizons: learn a closed window, issue quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.forecast.bands import QUANTILES, WIDTH, QuantileBands
from pipeline.forecast.calendar import CalendarEffects, CalendarRecord
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.experts import Expert, default_experts
from pipeline.forecast.model import Forecast, Score, SeriesKey
from pipeline.forecast.pool import ExpertPool
from pipeline.forecast.scoring import RunningScores
from pipeline.forecast.silence import SilenceGuard

__all__ = ["SeriesForecaster"]

#: Values beyond this are not demand but broken telemetry.
MAX_VALUE = 1e15
_BUSY_STEP = 0.02
_SPIKE_RATIO = 1.5
_SPIKE_SECONDS = 3600.0


class SeriesForecaster:
    """Online quantile forecasts of one series on a grid of windows of ``grain_seconds``.

    Deterministic and picklable: the same windows give the same forecasts, also when it was pickled in between.

    Args:
        series: what is forecast; copied into every forecast.
        horizons_seconds: how far ahead, ascending multiples of the grain.
        grain_seconds: width of a window.
        season_seconds: the cycle to learn (a day), a multiple of the grain.
        seed: reserved for experts that draw random numbers; the built-in ones draw none.
        experts: makes the experts over a context; the first must be the last value.
        suspect_silence: whether a busy series that reads exactly zero is suspected of missing telemetry; not where the
            caller can tell, by the count of requests, and says None.

    Raises:
        ValueError: horizons, grain and season do not fit together.
    """

    def __init__(
        self,
        series: SeriesKey,
        horizons_seconds: Sequence[int],
        grain_seconds: float,
        season_seconds: float = 86_400,
        seed: int = 0,
        experts: Callable[[SeriesContext], Sequence[Expert]] = default_experts,
        *,
        suspect_silence: bool = True,
    ) -> None:
        if not grain_seconds > 0 or not math.isfinite(grain_seconds):
            raise ValueError(f"grain_seconds must be positive, not {grain_seconds}")
        if any(horizon % grain_seconds for horizon in (*horizons_seconds, season_seconds)):
            raise ValueError(f"horizons and season must be multiples of the grain of {grain_seconds} s")
        self.series = series
        self.horizons_seconds = tuple(int(horizon) for horizon in horizons_seconds)
        self.grain_seconds = grain_seconds
        self.seed = seed
        steps = tuple(round(horizon / grain_seconds) for horizon in horizons_seconds)
        season_steps = round(season_seconds / grain_seconds)
        self._context = SeriesContext(steps, season_steps, grain_seconds)
        self._silence = SilenceGuard(self._context) if suspect_silence else None
        self.pool = ExpertPool(self._context, experts(self._context))
        self._bands = QuantileBands(self._context)
        self._ring = DelayRing(self._context.steps, 1 + WIDTH + len(self.pool.experts))
        self._scores = RunningScores(len(steps), 2 * season_steps)
        # Made when the first event is announced.
        self._effects: CalendarEffects | None = None
        self._busy_above: float | None = None
        self._spiked_until = -math.inf

    @property
    def age_seconds(self) -> float:
        """How long no value has come, in seconds of event time; 0 when the newest window had one."""
        return self._context.age * self.grain_seconds

    @property
    def silent(self) -> bool:
        """Whether the newest window is a zero that is suspected of being missing telemetry (``forecast.silence``)."""
        return self._silence is not None and self._silence.silent

    def step(self, end: float, value: float | None, calendar: Sequence[CalendarRecord] = ()) -> tuple[Forecast, ...]:
        """Learn the window that ended at ``end`` (epoch seconds) and issue forecasts for all horizons.

        ``value`` is a rate over the window; None, not finite, negative or above ``MAX_VALUE`` is a gap: nothing is
        learned or scored, the bands widen. Windows between the previous ``end`` and this one that never came are gaps
        too. Before the first value there is nothing to say: ``()``. With ``suspect_silence`` a busy series that reads
        exactly zero is suspected of having fallen silent: such windows are scored, but nothing is learned until the
        silence has lasted.

        ``calendar`` are the events that are known now, in any order, those of other pools and times included; pass them
        in every step. Without any, ever, forecasts are bit for bit those of a forecaster without calendar.

        Raises:
            ValueError: ``end`` is not finite or not after the previous one.
        """
        if not math.isfinite(end):
            raise ValueError(f"end must be finite, not {end}")
        context = self._context
        index = round(end / self.grain_seconds)
        usable = float(value) if value is not None and 0.0 <= value <= MAX_VALUE else None
        if context.seen == 0:
            if usable is None:
                return ()
        elif index <= context.index:
            raise ValueError(f"window ending at {end} is not after the one that was learned last")
        elif index > context.index + 1:
            context.skip(index - context.index - 1, index - 1)
        suspected = self._silence is not None and self._silence.suspects(usable)
        effects = self._follow(calendar, end)
        if effects is not None and usable is not None:
            usable = min(usable * math.exp(-effects.log_multiplier(end)), MAX_VALUE)
        if suspected:
            self._score_only(index, end)
            usable = None
        context.push(index, usable)
        for expert in self.pool.experts:
            expert.learn_one(usable)
        if usable is not None:
            self._learn(index, end, usable, value)
        point, spread, apart = self.pool.forecast()
        quantiles, waiting = self._bands.issue(point, spread)
        if usable is not None:
            self._ring.put(index, point, np.concatenate((waiting, apart), axis=1))
        if effects is not None:
            quantiles *= np.exp(effects.issue(index, end))[:, None]
        if suspected and self._silence is not None:
            quantiles = self._silence.mixed(quantiles)
        return tuple(
            Forecast(self.series, end, horizon, tuple(row))
            for horizon, row in zip(self.horizons_seconds, quantiles.tolist(), strict=True)
        )

    def _follow(self, calendar: Sequence[CalendarRecord], end: float) -> CalendarEffects | None:
        if calendar and self._effects is None:
            self._effects = CalendarEffects(self._context.steps, self.grain_seconds)
        if self._effects is not None:
            self._effects.set(calendar, self.series, end)
        return self._effects

    def _learn(self, index: int, end: float, y: float, value: float | None) -> None:
        """Learn ``y``, which is ``value`` without the effect of announced events."""
        issued, matured = self._ring.take(index)
        if not matured.any():
            return
        point, bands = issued[:, :1], issued[:, 1 : 1 + WIDTH]
        miss = y - point
        above = self._bands.learn(point, miss, bands, matured)
        if self._effects is None or value is None:
            self._scores.learn(y, above, matured, *self._circumstances(end, y, point[0, 0] + bands[0, -1]))
        else:
            quantiles = np.add(point, bands[:, QUANTILES:], dtype=np.float64)
            quantiles *= np.exp(self._effects.issued(index))[:, None]
            told = self._circumstances(end, value, float(quantiles[0, -1]))
            self._scores.learn(value, (value - quantiles)[matured], matured, *told)
            self._effects.learn(end, y, point[:, 0].tolist(), matured)
        self.pool.learn(miss, issued[:, 1 + WIDTH :], matured)

    def _score_only(self, index: int, end: float) -> None:
        """Score what was issued for a suspected zero; nothing else may learn from it."""
        issued, matured = self._ring.take(index)
        if matured.any():
            quantiles = np.add(issued[:, :1], issued[:, 1 + QUANTILES : 1 + WIDTH], dtype=np.float64)
            if self._effects is not None:
                quantiles *= np.exp(self._effects.issued(index))[:, None]
            self._scores.learn(0.0, -quantiles[matured], matured, False, end <= self._spiked_until)

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts have been, per horizon, over about two seasons."""
        return self._scores.report(self.series, self.horizons_seconds, self.pool.regret())

    def _circumstances(self, end: float, value: float, high: float) -> tuple[bool, bool]:
        """Whether the window is busy (top decile of demand), and whether it lies in the hour after a spike."""
        context = self._context
        recent, usual = float(context.lags[3]), float(context.lags[6])
        # Tracks the 0.9 quantile of the mean of three windows.
        busy = self._busy_above is not None and recent > self._busy_above
        if self._busy_above is None:
            self._busy_above = 1.2 * context.level
        self._busy_above += _BUSY_STEP * context.level * (0.9 if busy else -0.1)
        after = end <= self._spiked_until
        if value >= _SPIKE_RATIO * usual > 0.0 and value > high:
            self._spiked_until = end + _SPIKE_SECONDS
        return busy, after
