"""One series, all horizons: learn a closed window, issue quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.forecast.bands import QuantileBands
from pipeline.forecast.context import SeriesContext
from pipeline.forecast.experts import Expert, default_experts
from pipeline.forecast.model import Forecast, Score, SeriesKey
from pipeline.forecast.pool import ExpertPool
from pipeline.forecast.scoring import RunningScores

__all__ = ["SeriesForecaster"]

#: Values beyond this are not demand but broken telemetry.
MAX_VALUE = 1e15


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
        self.pool = ExpertPool(self._context, experts(self._context))
        self._bands = QuantileBands(self._context)
        self._scores = RunningScores(len(steps), 2 * season_steps)

    @property
    def age_seconds(self) -> float:
        """How long no value has come, in seconds of event time; 0 when the newest window had one."""
        return self._context.age * self.grain_seconds

    def step(self, end: float, value: float | None) -> tuple[Forecast, ...]:
        """Learn the window that ended at ``end`` (epoch seconds) and issue forecasts for all horizons.

        ``value`` is a rate over the window; None, not finite, negative or above ``MAX_VALUE`` is a gap: nothing is
        learned or scored, the bands widen. Windows between the previous ``end`` and this one that never came are gaps
        too. Before the first value there is nothing to say: ``()``.

        Raises:
            ValueError: ``end`` is not finite or not after the previous one.
        """
        if not math.isfinite(end):
            raise ValueError(f"end must be finite, not {end}")
        context = self._context
        index = round(end / self.grain_seconds)
        usable = value if value is not None and 0.0 <= value <= MAX_VALUE else None
        if context.seen == 0:
            if usable is None:
                return ()
        elif index <= context.index:
            raise ValueError(f"window ending at {end} is not after the one that was learned last")
        elif index > context.index + 1:
            context.skip(index - context.index - 1, index - 1)
        context.push(index, usable)
        if usable is not None:
            quantiles, matured = self._bands.learn(usable)
            self._scores.learn(usable, quantiles, matured)
        point, spread = self.pool.step(usable)
        rows = self._bands.issue(point, spread).tolist()
        return tuple(
            Forecast(self.series, end, horizon, tuple(row))
            for horizon, row in zip(self.horizons_seconds, rows, strict=True)
        )

    def scores(self) -> tuple[Score, ...]:
        """How good the matured forecasts have been, per horizon, over about two seasons."""
        return self._scores.report(self.series, self.horizons_seconds)
