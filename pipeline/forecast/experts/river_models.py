"""River's own models, each with what it needs to be usable; run them behind ``RiverGuard`` or ``RiverRegressor`` only.

Targets are scaled, as River's defaults scale features only and diverge on bursty data.
"""

from __future__ import annotations

from typing import Any

from pipeline.forecast.experts.river_guard import RiverForecaster

__all__ = ["adaptive_forest", "bayesian_linear", "snarimax"]


def snarimax() -> RiverForecaster:
    """SNARIMAX(6, 0, 2) on a linear regression by slow stochastic gradient descent with a scaled target."""
    from river import linear_model, optim, preprocessing, time_series

    regression = linear_model.LinearRegression(optimizer=optim.SGD(0.003))
    model: RiverForecaster = time_series.SNARIMAX(
        p=6, d=0, q=2,
        regressor=preprocessing.StandardScaler() | preprocessing.TargetStandardScaler(regression),
    )  # fmt: skip
    return model


def bayesian_linear() -> Any:
    """Bayesian linear regression that forgets slowly."""
    from river import linear_model

    return linear_model.BayesianLinearRegression(alpha=1.0, beta=10.0, smoothing=0.999)


def adaptive_forest() -> Any:
    """Three adaptive trees, kept shallow; milliseconds and hundreds of kilobytes per series."""
    from river import forest

    return forest.ARFRegressor(n_models=3, max_depth=4, seed=7)
