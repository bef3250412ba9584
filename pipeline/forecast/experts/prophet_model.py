"""Prophet with the ``forecast`` of statsforecast's models; needs the extra ``prophet``.

Taylor and Letham 2018, "Forecasting at scale". A fit runs in a process of its own (CmdStan, in a temporary folder):
about 0.16 s for a thousand windows (Prophet 1.5).
"""

from __future__ import annotations

import logging

import numpy as np

from pipeline.forecast.context import Floats

__all__ = ["ProphetModel"]

_DAY_SECONDS = 86_400
_ORDER = 4


class ProphetModel:
    """A piecewise linear trend and a season of ``season_steps`` steps, whatever a step is."""

    def __init__(self, season_steps: int) -> None:
        self._season_steps = season_steps

    def forecast(self, y: Floats, h: int) -> dict[str, Floats]:
        """Fit ``y`` and return ``mean``, the path of the ``h`` steps after it. Always the same for the same ``y``."""
        import pandas as pd
        from prophet import Prophet

        logging.getLogger("cmdstanpy").setLevel(logging.WARNING)  # a line for each fit otherwise
        model = Prophet(
            daily_seasonality=False, weekly_seasonality=False, yearly_seasonality=False, uncertainty_samples=0
        )
        if y.size >= self._season_steps:
            model.add_seasonality("season", period=1.0, fourier_order=_ORDER)
        # Times are made up: a season is a day.
        step_seconds = np.arange(y.size + h) * (_DAY_SECONDS / self._season_steps)
        times = pd.Timestamp("2020-01-01") + pd.to_timedelta(step_seconds, unit="s")
        model.fit(pd.DataFrame({"ds": times[: y.size], "y": y}), seed=7)
        path = model.predict(pd.DataFrame({"ds": times[y.size :]}))["yhat"]
        return {"mean": path.to_numpy(dtype=np.float64)}
