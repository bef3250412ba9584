"""Any regressor with scikit-learn's ``fit`` and ``predict``, refitted on a schedule; libraries by extra."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["REGRESSORS", "BatchRegressor"]

#: Windows that a fit looks back on, at most, and at least.
_HISTORY, _LEAST_HISTORY = 2_000, 40
#: Values before an origin that are features.
_LAGS = 8
_LIMIT = 20.0


def _hist_gradient_boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(loss="absolute_error", max_iter=60, early_stopping=False, random_state=7)


def _lightgbm() -> Any:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(
        objective="l1", n_estimators=60, num_leaves=15, n_jobs=1, deterministic=True, random_state=7, verbosity=-1
    )


#: Library that must be installed, and a function that makes the regressor, by name.
REGRESSORS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gradient_boosting": ("sklearn", _hist_gradient_boosting),
    "lightgbm": ("lightgbm", _lightgbm),
}


class BatchRegressor(Expert):
    """Predicts the change from the newest value to each target from the last eight changes, the newest value and, where
    there are any, each signal's value now and its change until the target.

    One model per horizon, in units of the series' level. Fits happen at whole multiples of the period in event time, so
    that a restart changes nothing; they take tens to hundreds of milliseconds inside the step that they are due in. A
    regressor that fails keeps its old models; without any the expert sleeps.

    Args:
        context: the series.
        name: a key of ``REGRESSORS``.
        refit_seconds: time between fits, in seconds of event time.

    Raises:
        ValueError: no such regressor, or its library is not installed.
    """

    def __init__(self, context: SeriesContext, name: str, refit_seconds: float = 21_600.0) -> None:
        super().__init__(context)
        if name not in REGRESSORS:
            raise ValueError(f"no regressor is called {name!r}; there are {', '.join(REGRESSORS)}")
        library, self._make = REGRESSORS[name]
        if find_spec(library) is None:
            raise ValueError(f"{name} needs {library}: install tokentide[batch]")
        self._name = name
        self._every = max(1, round(refit_seconds / context.grain_seconds))
        self._models: list[Any] = []
        self._scale = 1.0
        # Signals by window as they were known at its end.
        self._signals: dict[int, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._name

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return bool(self._models)

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        if context.signal_count:
            self._signals[context.index] = context.signal_features.astype(np.float32)
            while next(iter(self._signals)) <= context.index - min(_HISTORY, context.season_steps):
                del self._signals[next(iter(self._signals))]
        if y is None or context.seen < _LEAST_HISTORY:
            return
        if context.index % self._every == 0 or not self._models:
            self._refit()

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if not self._models:
            return context.flat_last()
        values = context.recent(_LAGS + 1).astype(np.float64) / self._scale
        ahead = context.flat(context.last)
        for at, model in enumerate(self._models):
            features = self._features(values, np.array([values.size - 1]), at)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                change = float(model.predict(features)[0])
            if abs(change) <= _LIMIT:
                ahead[at] = min(max(context.last + change * self._scale, 0.0), context.clip)
        return ahead

    def _refit(self) -> None:
        context = self.context
        # What a restart keeps of the past, so that it changes nothing.
        values = context.recent(min(_HISTORY, context.season_steps)).astype(np.float64)
        scale = max(float(values.max()), TINY)
        values = values / scale
        models = []
        for at, step in enumerate(context.steps.tolist()):
            origins = np.arange(_LAGS, values.size - step)
            if origins.size < _LEAST_HISTORY // 2:
                return
            features = self._features(values, origins, at)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    models.append(self._make().fit(features, values[origins + step] - values[origins]))
                except Exception:  # whatever a foreign library raises on odd data, the pool goes on
                    return
        self._models, self._scale = models, scale

    def _features(self, values: Floats, origins: NDArray[np.int64], at: int) -> Floats:
        """Rows of features at ``origins`` for horizon number ``at``: the last eight changes, newest first, the value,
        and two numbers for each signal; ``values`` end with the newest window."""
        changes = np.diff(values)
        columns = [changes[origins - 1 - lag] for lag in range(_LAGS)]
        columns.append(values[origins])
        if self.context.signal_count:
            first = self.context.index + 1 - values.size
            nothing = np.zeros((self.context.signal_count, 1 + self.context.steps.size), dtype=np.float32)
            rows = np.array([self._signals.get(first + origin, nothing) for origin in origins.tolist()])
            columns += [*rows[:, :, 0].T, *rows[:, :, 1 + at].T]
        return np.column_stack(columns)
