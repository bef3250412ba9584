"""Any River regressor, one copy per horizon, with labels that come late, made safe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["RiverRegressor"]

_WARM_UP = 8
_LIMIT = 20.0
_FEATURES = 7
_FAILURES = (ArithmeticError, ValueError, IndexError, KeyError)


class RiverRegressor(Expert):
    """Predicts the change from the last value to each target, in units of today's level.

    Features: the shared lags relative to the last value, the season's and the profile's value at the target, and each
    signal from outside: its value now and its change until the target. A copy
    that raises or answers with something not finite or beyond twenty levels starts afresh.

    Args:
        context: the series.
        factory: a module-level function (so that it pickles) that returns a new River regressor.
        label: name within a pool.
    """

    def __init__(self, context: SeriesContext, factory: Callable[[], Any], label: str) -> None:
        super().__init__(context)
        self._factory = factory
        self._label = label
        self._models: list[Any] = [factory() for _ in context.steps]
        self._learned = [0] * context.steps.size
        # Per origin that still waits: scale, last value in it, features per horizon.
        self._waiting: dict[int, tuple[float, float, Floats]] = {}
        self._ahead: Floats = context.flat(0.0)
        self.resets = 0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._label

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        index, steps = context.index, context.steps.tolist()
        if y is not None:
            for at, step in enumerate(steps):
                origin = self._waiting.get(index - step)
                if origin is not None:
                    self._learn(at, y, *origin)
        # Origins whose longest label has come or was missed.
        while self._waiting and next(iter(self._waiting)) <= index - steps[-1]:
            del self._waiting[next(iter(self._waiting))]
        scale = max(context.level, 0.01 * context.recent_max, TINY)
        moved = np.minimum(context.lags / scale, _LIMIT)
        last = float(moved[0])
        features = np.empty((len(steps), _FEATURES + 1 + 2 * context.signal_count))
        features[:, : _FEATURES - 1] = moved[1:_FEATURES] - last
        features[:, _FEATURES - 1] = moved[8 : 8 + len(steps)] - moved[7]
        features[:, _FEATURES] = moved[8 + len(steps) :] - last
        if context.signal_count:
            signals = context.signal_features
            features[:, _FEATURES + 1 :: 2] = signals[:, 0]
            features[:, _FEATURES + 2 :: 2] = signals[:, 1:].T
        self._ahead = self._predict(features, scale, last)
        if y is not None:
            self._waiting[index] = (scale, last, features)

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        return self._ahead

    def _learn(self, at: int, y: float, scale: float, last: float, features: Floats) -> None:
        try:
            self._models[at].learn_one(_named(features[at]), min(y / scale, _LIMIT) - last)
            self._learned[at] += 1
        except _FAILURES:
            self._restart(at)

    def _predict(self, features: Floats, scale: float, last: float) -> Floats:
        context = self.context
        ahead = context.flat(context.last)
        for at, model in enumerate(self._models):
            if self._learned[at] < _WARM_UP:
                continue
            try:
                change = float(model.predict_one(_named(features[at])))
            except _FAILURES:
                change = math.nan
            if not abs(change) <= _LIMIT:
                self._restart(at)
                continue
            ahead[at] = min(max((last + change) * scale, 0.0), context.clip)
        return ahead

    def _restart(self, at: int) -> None:
        self._models[at] = self._factory()
        self._learned[at] = 0
        self.resets += 1


def _named(features: Floats) -> dict[str, float]:
    return {f"x{at}": value for at, value in enumerate(features.tolist())} | {"constant": 0.1}
