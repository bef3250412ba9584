import numpy as np
import pytest

from pipeline.alerts.spikes.early_warning import EVENT_PROBABILITY, ForecastWatch, expected_shortfall
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey

NOW = 1_790_000_000.0
Z = dict(zip(LEVELS, (-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326), strict=True))


def forecast(horizon, median, spread=0.05):
    quantiles = tuple(max(0.0, median * (1.0 + spread * Z[level])) for level in LEVELS)
    return Forecast(SeriesKey("m", "p", "requests_per_second"), NOW, horizon, quantiles)


def watch(level=10.0, day=None, probability=0.5):
    made = ForecastWatch(60.0, probability)
    for rate in [day or level] * 1440 + [level] * 30:
        made.learn(rate)
    return made


def test_a_rise_is_told_at_the_nearest_horizon_that_holds_it():
    found = watch().look([forecast(60, 10.5), forecast(300, 12.0), forecast(900, 16.0), forecast(3600, 30.0)])
    assert found.horizon_seconds == 900
    assert found.target_at == NOW + 900
    assert found.ratio == pytest.approx(1.6)
    assert found.probability is None
    assert found.severity == "warning"


def test_a_daily_rise_an_hour_ahead_is_no_spike_without_an_event():
    assert watch().look([forecast(900, 12.0), forecast(3600, 25.0)]) is None


def test_with_an_event_the_hour_ahead_counts_and_the_event_is_named():
    event = CalendarRecord("m1", "match", NOW + 1800.0, NOW + 7200.0)
    found = watch().look([forecast(900, 12.0), forecast(3600, 25.0)], events=[event])
    assert found.horizon_seconds == 3600
    assert found.event is event
    over = CalendarRecord("m0", "match", NOW - 90_000.0, NOW - 80_000.0)
    assert watch().look([forecast(3600, 25.0)], events=[over]) is None


def test_an_event_does_not_turn_the_ordinary_morning_into_a_spike():
    event = CalendarRecord("m1", "match", NOW, NOW + 7200.0)
    night = watch(level=4.0, day=20.0)  # far below the day's median
    assert night.look([forecast(3600, 12.0)], events=[event]) is None
    assert night.event_chance(forecast(3600, 12.0)) < EVENT_PROBABILITY


def test_a_shortfall_is_graded_by_probability_times_size():
    small = watch().look([forecast(300, 13.0, 0.02)], capacity=12.5)
    large = watch().look([forecast(300, 14.0, 0.3)], capacity=7.0)
    assert small.severity == "warning"
    assert small.probability > 0.5
    assert small.shortfall < 0.1 < large.shortfall
    assert large.severity == "critical"


def test_a_rise_that_the_replicas_hold_is_told_as_news():
    found = watch().look([forecast(300, 15.8), forecast(900, 16.2)], capacity=1000.0)
    assert (found.severity, found.shortfall) == ("info", 0.0)
    assert found.probability < 0.001
    assert found.ratio == pytest.approx(0.0158)
    assert found.short_horizon_seconds == 300


@pytest.mark.parametrize(
    ("capacity", "probability", "severity"),
    [(17.2, 0.5, "warning"), (18.2, 0.5, "info"), (18.2, 0.002, "warning"), (19.5, 0.002, "info")],
)
def test_a_warning_needs_a_chance_of_a_shortfall_that_is_not_negligible(capacity, probability, severity):
    found = watch(probability=probability).look([forecast(300, 16.0)], capacity=capacity)
    assert found.severity == severity
    # At 17.3 the chance is 5 %, at 18.2 it is between 0.2 and 1 %.
    assert (found.probability < min(0.05, probability)) == (severity == "info")


def test_a_ramp_is_graded_by_how_far_it_gets_within_a_quarter_of_an_hour():
    ramp = [forecast(60, 12.0), forecast(300, 16.0), forecast(600, 30.0), forecast(900, 40.0), forecast(3600, 90.0)]
    found = watch().look(ramp, capacity=39.0)
    assert (found.horizon_seconds, found.short_horizon_seconds) == (300, 900)
    assert found.probability > 0.5
    assert found.severity == "warning"
    assert watch().look(ramp, capacity=30.0).severity == "critical"
    # What is beyond is not looked at: an hour ahead a daily rise looks the same.
    assert watch().look(ramp, capacity=60.0).severity == "info"


def test_a_rise_of_an_event_is_graded_at_its_own_horizon():
    event = CalendarRecord("m1", "match", NOW + 1800.0, NOW + 7200.0)
    night = [forecast(900, 12.0), forecast(3600, 25.0)]
    held, short = (watch().look(night, capacity, [event]) for capacity in (40.0, 20.0))
    assert (held.severity, short.severity) == ("info", "critical")
    assert held.short_horizon_seconds == short.short_horizon_seconds == 3600


def test_ample_capacity_and_slow_growth_are_silent():
    assert watch().look([forecast(300, 13.0)], capacity=20.0) is None
    assert watch().look([forecast(300, 11.0)], capacity=10.0) is None
    assert ForecastWatch(60.0, 0.5).look([forecast(300, 99.0)]) is None


def test_a_warning_that_stands_does_not_flap_around_its_rule():
    wavering = [15.2, 14.7, 15.1, 14.3, 15.3, 14.9]
    made, active, seen = watch(), False, []
    for median in wavering:
        active = made.look([forecast(300, median)], active=active) is not None
        seen.append(active)
    assert seen == [True] * 6
    assert made.look([forecast(300, 13.0)], active=True) is None


@pytest.mark.parametrize("capacity", [0.0, 50.0, 100.0, 130.0])
def test_expected_shortfall_equals_a_simulation(capacity):
    levels = np.linspace(0.001, 0.999, 400)
    quantiles = 100.0 - 20.0 * np.log(1.0 - levels)  # exponential above 100
    drawn = 100.0 + 20.0 * np.random.default_rng(1).exponential(size=400_000)
    found = expected_shortfall(tuple(quantiles), tuple(levels), capacity)
    assert found == pytest.approx(np.maximum(drawn - capacity, 0).mean(), rel=0.02)
