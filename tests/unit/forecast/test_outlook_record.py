"""Outlooks give back what they were made of."""

from __future__ import annotations

import pickle

import pytest

from pipeline.forecast.day_model import Growth
from pipeline.forecast.outlook_record import Grain, Outlook
from pipeline.forecast.types import Forecast, SeriesKey

KEY = SeriesKey("m", "p", "requests_per_second")
QUANTILES = tuple(0.1 * number for number in range(1, 9))
FORECASTS = tuple(Forecast(KEY, 7_200.0, hours * 3_600, QUANTILES) for hours in (1, 24))
GROWTH = (Growth("flat", 0.0, (1.0, 2.0)), Growth("low", -0.01, (0.5, 0.25)))


def test_what_was_said_comes_back_also_from_a_pickle() -> None:
    outlook = Outlook(KEY, Grain.DAY, 7_200.0, FORECASTS, GROWTH, 1.5)
    for one in (outlook, pickle.loads(pickle.dumps(outlook))):
        assert one == outlook
        assert hash(one) == hash(outlook)
        assert repr(one) == repr(outlook)
        assert one.forecasts == FORECASTS
        assert one.growth == GROWTH
        assert one.peak_ratio == 1.5
    assert outlook != Outlook(KEY, Grain.DAY, 7_200.0, FORECASTS, GROWTH, None)
    assert outlook != Outlook(KEY, Grain.DAY, 7_200.0, FORECASTS[:1], GROWTH, 1.5)


def test_nothing_said_is_nothing() -> None:
    outlook = Outlook(KEY, Grain.HOUR, 7_200.0, ())
    assert outlook.forecasts == ()
    assert outlook.growth == ()
    assert outlook.peak_ratio is None


def test_what_cannot_be_given_back_is_refused() -> None:
    other = Forecast(KEY._replace(signal="kv_tokens"), 7_200.0, 3_600, QUANTILES)
    with pytest.raises(ValueError, match="another series or time"):
        Outlook(KEY, Grain.HOUR, 7_200.0, (other,))
    with pytest.raises(ValueError, match="another series or time"):
        Outlook(KEY, Grain.HOUR, 3_600.0, FORECASTS)
    with pytest.raises(ValueError, match="medians"):
        Outlook(KEY, Grain.DAY, 7_200.0, FORECASTS, (GROWTH[0], Growth("high", 0.01, (1.0,))))
