"""Batch models, refitted on a schedule: ARIMA and ETS of statsforecast, Prophet; each needs an extra."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from pipeline.forecast.context import TINY, Floats, SeriesContext
from pipeline.forecast.experts.base import Expert

__all__ = ["MODELS", "ScheduledRefit"]

#: Windows that a fit looks back on, at most.
_HISTORY = 1_000
_LEAST_HISTORY = 24
#: Weight of the newest miss when a path that was fitted earlier is moved to where demand is.
_MISS_RATE = 0.5


def _auto_ets(season_steps: int) -> Any:
    from statsforecast.models import AutoETS

    # Its seasons end at 24 steps.
    return AutoETS(season_length=season_steps if season_steps <= 24 else 1)


def _auto_arima(season_steps: int) -> Any:
    from statsforecast.models import AutoARIMA

    del season_steps  # a seasonal search takes seconds to minutes
    return AutoARIMA(season_length=1)


def _prophet(season_steps: int) -> Any:
    from pipeline.forecast.experts.prophet_model import ProphetModel

    return ProphetModel(season_steps)


#: Model by name, from the number of steps of a season.
MODELS: dict[str, Callable[[int], Any]] = {"auto_ets": _auto_ets, "auto_arima": _auto_arima, "prophet": _prophet}


class ScheduledRefit(Expert):
    """A batch model that is fitted anew every so often; in between, its path is moved by what it has missed since.

    A fit takes 10 to 500 ms inside the step that it is due in (statsforecast 2.1, Prophet 1.5), so the schedule decides
    the cost: it is no expert for a thousand series on one core. Fits happen at whole multiples of the period in event
    time, so that a restart changes nothing. A model that fails to fit keeps its old path; without any it sleeps.

    Args:
        context: the series.
        model: a key of ``MODELS``.
        refit_seconds: time between fits, in seconds of event time.

    Raises:
        ValueError: no such model, or its library is not installed.
    """

    def __init__(self, context: SeriesContext, model: str, refit_seconds: float = 3600.0) -> None:
        super().__init__(context)
        if model not in MODELS:
            raise ValueError(f"no model is called {model!r}; there are {', '.join(MODELS)}")
        library = "prophet" if model == "prophet" else "statsforecast"
        if find_spec(library) is None:
            raise ValueError(f"{model} needs {library}: install tokentide[{library}]")
        self._model = model
        self._every = max(1, round(refit_seconds / context.grain_seconds))
        self._history = min(context.season_steps, _HISTORY)
        self._path: Floats = np.zeros(0)
        self._fitted_at = 0
        self._miss = 0.0

    @property
    def name(self) -> str:
        """The name within a pool."""
        return self._model

    @property
    def awake(self) -> bool:
        """See ``Expert.awake``."""
        return self.context.index - self._fitted_at + int(self.context.steps[-1]) <= self._path.size

    def learn_one(self, y: float | None) -> None:
        """See ``Expert.learn_one``."""
        context = self.context
        if y is None:
            return
        age = context.index - self._fitted_at
        if 0 < age <= self._path.size:
            self._miss += _MISS_RATE * (y - float(self._path[age - 1]) - self._miss)
        due = age >= self._every or context.index % self._every == 0
        if context.seen >= _LEAST_HISTORY and (due or not self._path.size):
            self._refit()

    def forecast(self) -> Floats:
        """See ``Expert.forecast``."""
        context = self.context
        if not self.awake:
            return context.flat_last()
        ahead = self._path[context.index - self._fitted_at + context.steps - 1] + self._miss
        return np.asarray(np.minimum(np.maximum(ahead, 0.0), context.clip), dtype=np.float64)

    def _refit(self) -> None:
        context = self.context
        values = context.recent(self._history).astype(np.float64)
        # A gap of one period must not put the expert to sleep.
        length = int(context.steps[-1]) + 2 * self._every
        scale = max(float(values.max()), TINY)
        path = np.full(length, context.last)
        if np.ptp(values) > 1e-9 * scale:
            model = MODELS[self._model](context.season_steps)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    path = scale * np.asarray(model.forecast(y=values / scale, h=length)["mean"], dtype=np.float64)
                except Exception:  # whatever a foreign library raises on odd data, the pool goes on
                    return
        if np.isfinite(path).all():
            self._path, self._fitted_at, self._miss = path, context.index, 0.0
