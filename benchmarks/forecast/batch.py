"""Batch tools, refitted on the newest days at every origin that is scored: never stale, whatever it costs.

Each tool takes ``(values, origins, steps, day)`` and returns quantiles at ``LEVELS``, shape (origins, horizons,
levels); NaN for levels that it does not give. Negative forecasts are set to zero, as for every rival.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.forecast.types import LEVELS

__all__ = ["BATCH", "missing"]

Tool = Callable[[np.ndarray, np.ndarray, tuple[int, ...], int], np.ndarray]

# Windows that a refit looks back on: at least so many, and at least three days where a season is learned.
HISTORY = 2016
ARIMA_HISTORY = 864
_DAYS = 3
_LEARNED = (0.5, 0.95)
_TREES = 80
_LEAST_ROWS = 20
_INTERVALS = [50, 80, 90, 98]


def _history(values: np.ndarray, origin: int, windows: int) -> np.ndarray:
    return values[max(0, origin + 1 - windows) : origin + 1]


def _quantiles(told: dict[str, np.ndarray], steps: tuple[int, ...]) -> np.ndarray:
    """The intervals of statsforecast as quantiles."""
    at = np.array(steps) - 1
    columns = []
    for level in LEVELS:
        width = round(100 * abs(2 * level - 1))
        name = "mean" if level == 0.5 else f"{'lo' if level < 0.5 else 'hi'}-{width}"
        columns.append(np.asarray(told[name])[at])
    return np.stack(columns, axis=1)


def _refit(make: Callable[[int], Any], seasonal: bool = True) -> Tool:
    def run(values: np.ndarray, origins: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
        rows, windows = [], max(HISTORY, _DAYS * day) if seasonal else ARIMA_HISTORY
        for origin in origins.tolist():
            told = make(day).forecast(y=_history(values, origin, windows), h=steps[-1], level=_INTERVALS)
            rows.append(_quantiles(told, steps))
        return np.array(rows)

    return run


def _ets(day: int) -> Any:
    from statsforecast.models import AutoETS

    # Its seasons end at 24 steps.
    return AutoETS(season_length=day if day <= 24 else 1)


def _arima(_day: int) -> Any:
    from statsforecast.models import AutoARIMA

    return AutoARIMA(season_length=1)


def _mstl(day: int) -> Any:
    from statsforecast.models import MSTL, AutoETS

    return MSTL(season_length=day, trend_forecaster=AutoETS(model="ZZN"))


def dynamo_arima(values: np.ndarray, origins: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """The order chosen once on the warm-up, then only new values (the ``arima`` predictor of NVIDIA Dynamo)."""
    model = _arima(day).fit(values[: 2 * day])
    rows = []
    for origin in origins.tolist():
        told = model.forward(y=_history(values, origin, ARIMA_HISTORY), h=steps[-1], level=_INTERVALS)
        rows.append(_quantiles(told, steps))
    return np.array(rows)


def lightgbm(values: np.ndarray, origins: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Boosted trees on lags, means, the day before and the place in day and week; one model per horizon and level."""
    import lightgbm as lgb

    issued = np.full((len(origins), len(steps), len(LEVELS)), np.nan)
    features = _features(values, steps, day)
    for row, origin in enumerate(origins.tolist()):
        for column, step in enumerate(steps):
            past = np.arange(max(day, origin - max(HISTORY, _DAYS * day)), origin - step + 1)
            if past.size < _LEAST_ROWS:
                issued[row, column, [LEVELS.index(level) for level in _LEARNED]] = values[origin]
                continue
            # Trees cannot leave the range that they have seen: they learn the change from the last value.
            change = values[past + step] - values[past]
            for level in _LEARNED:
                model = lgb.LGBMRegressor(
                    objective="quantile", alpha=level, n_estimators=_TREES, num_leaves=31, n_jobs=1, verbose=-1
                )
                model.fit(features[column][past], change)
                told = values[origin] + model.predict(features[column][[origin]])[0]
                issued[row, column, LEVELS.index(level)] = told
    return issued


def _features(values: np.ndarray, steps: tuple[int, ...], day: int) -> list[np.ndarray]:
    lags = [np.roll(values, lag) for lag in (0, 1, 2, day)]
    sums = np.cumsum(np.insert(values, 0, 0.0))
    at = np.arange(len(values))
    means = [(sums[at + 1] - sums[np.maximum(at + 1 - width, 0)]) / np.minimum(at + 1, width) for width in (3, 6, 12)]
    rows = []
    for step in steps:
        target = at + step
        calendar = [target % day, target // day % 7]
        rows.append(np.stack([*lags, *means, np.roll(values, max(day - step, 0)), *calendar], axis=1))
    return rows


def prophet(values: np.ndarray, origins: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Prophet with its defaults, as NVIDIA Dynamo's planner and Grafana Cloud use it."""
    import pandas as pd
    from prophet import Prophet

    for name in ("cmdstanpy", "prophet"):
        logging.getLogger(name).disabled = True
    times = pd.date_range("2024-01-01", periods=len(values) + steps[-1], freq=f"{86_400 // day}s")
    rows = []
    for origin in origins.tolist():
        past = _history(values, origin, max(HISTORY, _DAYS * day))
        model = Prophet(uncertainty_samples=200, yearly_seasonality=False)
        np.random.seed(0)  # Prophet draws from the global state
        model.fit(pd.DataFrame({"ds": times[origin + 1 - len(past) : origin + 1], "y": past}))
        drawn = model.predictive_samples(pd.DataFrame({"ds": times[origin + np.array(steps)]}))["yhat"]
        rows.append(np.quantile(drawn, LEVELS, axis=1).T)
    return np.array(rows)


#: Name: what it imports, how many of the origins it is run at (2: every second), the tool.
BATCH: dict[str, tuple[str, int, Tool]] = {
    "AutoETS": ("statsforecast", 1, _refit(_ets)),
    "AutoARIMA": ("statsforecast", 1, _refit(_arima, seasonal=False)),
    "MSTL": ("statsforecast", 1, _refit(_mstl)),
    "Dynamo ARIMA": ("statsforecast", 1, dynamo_arima),
    "LightGBM": ("lightgbm", 1, lightgbm),
    "Prophet": ("prophet", 2, prophet),
}


def missing() -> list[str]:
    """Tools whose package is not installed."""
    from importlib.util import find_spec

    return [name for name, (package, _, _) in BATCH.items() if find_spec(package) is None]


warnings.filterwarnings("ignore", module="statsforecast|prophet|cmdstanpy|sklearn|lightgbm")
