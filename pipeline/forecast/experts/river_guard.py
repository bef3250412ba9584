"""Any River forecaster, made safe: scaled target, bounded output, reset when it blows up.

River's time series models take raw targets, may return negative or non-finite values and can diverge for good; none is
trusted without this guard.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert
from pipeline.forecast.experts.holt import Holt

__all__ = ["RiverForecaster", "RiverGuard", "holt"]

_WARM_UP = 4
_REPLAY = 32
_RESCALE = 30.0


class RiverForecaster(Protocol):
    """The part of ``river.time_series.base.Forecaster`` that is used."""

    def learn_one(self, y: float) -> None:
        """Learn one target."""
        ...

    def forecast(self, horizon: int) -> list[float]:
        """Forecast ``horizon`` steps ahead."""
        ...


def holt() -> RiverForecaster:
    """Holt smoothing: level and trend, no season (River's additive one starts from ratios and misleads)."""
    return Holt(alpha=0.3, beta=0.05)


class RiverGuard(Expert):
    """A guarded River forecaster.

    The model learns ``y / scale``; the scale is fixed until the level has moved ``30 ×`` away from it, when a fresh
    model learns the newest values in the new scale. The same happens when a forecast is not finite or when the one-step
    forecast leaves ``[-recent max, 4 × recent max]``. Forecasts are clipped to ``[0, 2 × recent max]``.

    Args:
        context: the series.
        factory: a module-level function (so that it pickles) that returns a new River forecaster.
        label: name within a pool.
    """

    __slots__ = ("_factory", "_label", "_learned", "_model", "_scale", "context", "resets")

    def __init__(
        self, context: SeriesContext, factory: Callable[[], RiverForecaster] = holt, label: str = "river_holt"
    ) -> None:
        super().__init__(context)
        self._factory = factory
        self._label = label
        self._model: Any = factory()
        self._scale = 0.0
        self._learned = 0
        self.resets = 0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._label

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        if y is None:
            return
        level = max(self.context.level, TINY)
        if self._scale == 0.0 or not self._scale / _RESCALE <= level <= self._scale * _RESCALE:
            self._restart()
            return
        self._learn(y)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if self._learned < _WARM_UP:
            return context.flat_last()
        try:
            ahead = [float(value) * self._scale for value in self._path()]
        except (ArithmeticError, ValueError, IndexError):
            ahead = [math.nan]
        bound, clip = max(context.recent_max, TINY), context.clip
        if not math.isfinite(sum(ahead)) or not -bound <= ahead[0] <= 4.0 * bound:
            self._restart()
            self.resets += 1
            return context.flat_last()
        return np.array([min(max(value, 0.0), clip) for value in ahead])

    def _path(self) -> list[float]:
        steps: list[int] = self.context.steps.tolist()
        forecast_at = getattr(self._model, "forecast_at", None)  # a model that need not walk to the last step
        if forecast_at is not None:
            return list(forecast_at(steps))
        path = self._model.forecast(horizon=steps[-1])
        return [path[step - 1] for step in steps]

    def _restart(self) -> None:
        self._model = self._factory()
        self._scale = max(self.context.level, TINY)
        self._learned = 0
        for value in self.context.recent(_REPLAY).tolist():
            self._learn(value)

    def _learn(self, y: float) -> None:
        try:
            self._model.learn_one(y / self._scale)
        except (ArithmeticError, ValueError, IndexError):
            self._model = self._factory()
            self._learned = 0
            self.resets += 1
            return
        self._learned += 1
