"""Forecast a series online: learn each window, get quantiles for every horizon."""

import math

from pipeline import SeriesForecaster, SeriesKey, Signal

series = SeriesForecaster(
    SeriesKey("llama-3.1-8b", "chat", Signal.REQUESTS), horizons_seconds=(300, 3600), grain_seconds=300
)
forecasts = ()
for minute in range(0, 3 * 1440, 5):
    rate = 20.0 + 10.0 * math.sin(2 * math.pi * minute / 1440)
    forecasts = series.step(60.0 * (minute + 5), rate)
for forecast in forecasts:
    print(f"{forecast.horizon_seconds} s ahead: {forecast.quantiles[3]:.1f} requests/s in the median")
