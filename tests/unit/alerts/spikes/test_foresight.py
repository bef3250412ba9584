import pickle

from pipeline.alerts.spikes.foresight import Foresight
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey


def fan(issued_at, *horizons):
    return tuple(
        Forecast(SeriesKey("m", "p", "r"), issued_at, horizon, tuple(horizon + level for level in LEVELS))
        for horizon in horizons
    )


def test_the_nearest_horizon_of_a_quarter_of_an_hour_counts():
    foresight = Foresight(60.0)
    foresight.learn(fan(0.0, 60, 300, 900, 3600))
    assert foresight.of(60.0) is None
    assert foresight.of(300.0) is None
    assert foresight.of(900.0) == 900.5
    assert foresight.of(3600.0) is None


def test_long_windows_need_three_of_them():
    foresight = Foresight(600.0)
    foresight.learn(fan(0.0, 600, 1200, 1800))
    assert foresight.of(1200.0) is None
    assert foresight.of(1800.0) == 1800.5


def test_what_is_past_is_forgotten_and_the_rest_pickles():
    foresight = Foresight(60.0)
    for minute in range(100):
        foresight.learn(fan(60.0 * minute, 60, 900))
        assert (foresight.of(60.0 * (minute + 1)) is None) is (minute < 14)
    assert len(pickle.dumps(foresight)) < 1_000
    assert pickle.loads(pickle.dumps(foresight)).of(60.0 * 105) == 900.5


def test_no_forecasts_no_foresight():
    foresight = Foresight(60.0)
    foresight.learn(())
    foresight.learn(fan(0.0, 60))
    assert foresight.of(60.0) is None
