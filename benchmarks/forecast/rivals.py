"""What users would pick instead: point forecasts of simple and unguarded models, with a rolling residual band."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from river import linear_model, preprocessing, time_series

from pipeline.forecast.types import LEVELS

__all__ = ["RIVALS", "banded"]

Points = Callable[[np.ndarray, tuple[int, ...], int], np.ndarray]
_LINE = 12


def last(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """The newest value (the ``constant`` predictor of NVIDIA Dynamo's planner)."""
    del day
    return np.repeat(values[:, None], len(steps), axis=1)


def seasonal_naive(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """The value a day before the target."""
    points = last(values, steps, day)
    for at, step in enumerate(steps):
        points[day - step :, at] = values[: len(values) - day + step]
    return points


def ewma(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Exponentially weighted mean, rate 0.3."""
    means, mean = [], values[0]
    for value in values.tolist():
        mean += 0.3 * (value - mean)
        means.append(mean)
    return last(np.array(means), steps, day)


def predict_linear(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Least squares over the newest twelve windows, as Prometheus' ``predict_linear``; not below zero."""
    points = last(values, steps, day)
    at = np.arange(_LINE) - (_LINE - 1)
    centred = at - at.mean()
    windows = np.lib.stride_tricks.sliding_window_view(values, _LINE)
    slope = (windows * centred).sum(axis=1) / (centred**2).sum()
    now = windows.mean(axis=1) - slope * at.mean()
    points[_LINE - 1 :] = now[:, None] + slope[:, None] * np.array(steps)
    return np.maximum(points, 0.0)


def kalman(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Local linear trend with the noises of NVIDIA Dynamo's planner (q_level 1, q_trend 0.1, r 10); not below zero."""
    points = last(values, steps, day)
    level, trend, p = values[0], 0.0, np.eye(2) * 10.0
    move, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([1.0, 0.1])
    for at, value in enumerate(values.tolist()):
        level, p = level + trend, move @ p @ move.T + noise
        gain = p[:, 0] / (p[0, 0] + 10.0)
        miss = value - level
        level, trend = level + gain[0] * miss, trend + gain[1] * miss
        p = p - np.outer(gain, p[0])
        points[at] = level + np.array(steps) * trend
    return np.maximum(points, 0.0)


def _river(make: Callable[[int], object]) -> Points:
    def points(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
        model, rows = make(day), last(values, steps, day)
        for at, value in enumerate(values.tolist()):
            try:
                model.learn_one(value)
                if at > day:
                    path = model.forecast(horizon=steps[-1])
                    rows[at] = [path[step - 1] for step in steps]
            except (ArithmeticError, ValueError):
                rows[at:] = np.inf
                break
        return rows

    return points


def river_linear(values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """River's StandardScaler | LinearRegression on six lags and the day before, labels delayed."""
    rows = last(values, steps, day)
    for column, step in enumerate(steps):
        model = preprocessing.StandardScaler() | linear_model.LinearRegression()
        seen: list[dict[str, float]] = []
        for at, value in enumerate(values.tolist()):
            if at >= step and seen[at - step]:
                model.learn_one(seen[at - step], value)
            features = {}
            if at >= day:
                features = {f"lag{lag}": float(values[at - lag]) for lag in range(6)}
                features["day"] = float(values[at - day + step])
                rows[at, column] = model.predict_one(features)
            seen.append(features)
    return rows


RIVALS: dict[str, Points] = {
    "last": last,
    "seasonal naive": seasonal_naive,
    "EWMA 0.3": ewma,
    "predict_linear": predict_linear,
    "Kalman trend": kalman,
    "River SNARIMAX(12,1,3)": _river(lambda _day: time_series.SNARIMAX(p=12, d=1, q=3)),
    "River HoltWinters, day": _river(lambda day: time_series.HoltWinters(0.3, 0.01, 0.3, seasonality=day)),
    "River linear SGD": river_linear,
}


def banded(points: np.ndarray, values: np.ndarray, steps: tuple[int, ...], day: int) -> np.ndarray:
    """Quantiles at ``LEVELS``: the point plus the quantiles of the last day's matured residuals; the median stays."""
    issued = np.repeat(points[:, :, None], len(LEVELS), axis=2)
    shifted = np.array([level != 0.5 for level in LEVELS])
    for at, step in enumerate(steps):
        with np.errstate(all="ignore"):
            residuals = values[step:] - points[: len(values) - step, at]
        windows = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(residuals, posinf=0, neginf=0), day)
        issued[step + day - 1 :, at, shifted] += np.quantile(windows, np.array(LEVELS)[shifted], axis=1).T
    return np.maximum(issued, 0.0)
