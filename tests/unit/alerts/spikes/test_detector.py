import math
import pickle

import numpy as np
import pytest

from pipeline.alerts.spikes.detector import Direction, Kind, SpikeDetector, forecast_breach
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, Forecast, SeriesKey

DAY = 1440


def course(minutes, level=20.0):
    minute = np.arange(minutes)
    return level * (1.0 + 0.4 * np.sin(2.0 * np.pi * minute / DAY))


def poisson(rate, seed=0):
    return np.random.default_rng(seed).poisson(rate * 60.0) / 60.0


def watch(values, detector=None, model=None, start=0):
    """States per minute window; with a ``model``, the detector sees its forecasts."""
    detector = detector or SpikeDetector(1.0, 60)
    states, issued = [], ()
    for at, value in enumerate(values, start):
        end = (at + 1) * 60.0
        states.append(detector.observe(end, value, issued))
        if model is not None:
            issued = model.step(end, value)
    return states


def forecaster():
    return SeriesForecaster(SeriesKey("m", "p", "r"), (60, 900), 60)


@pytest.fixture(params=[False, True], ids=["alone", "with forecast"])
def model(request):
    return forecaster() if request.param else None


@pytest.mark.slow
@pytest.mark.parametrize("history", [30, 200, 1000])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e5])
def test_a_threefold_jump_is_found_in_its_first_window(model, history, unit):
    rate = course(history + 60)
    rate[history:] *= 3.0
    states = watch(poisson(rate, seed=1) * unit, model=model)
    began = [at for at, state in enumerate(states) if state.began]
    assert began == [history]
    found = states[history]
    assert found.active
    assert found.started_at == found.at == (history + 1) * 60.0
    assert found.ratio == pytest.approx(3.0, rel=0.15)
    assert found.score > 1.0
    assert found.p_value < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_ordinary_days_stay_near_the_wanted_false_alerts(seed):
    states = watch(poisson(course(5 * DAY, level=2.0), seed))
    assert sum(state.began for state in states) <= 10


@pytest.mark.slow
def test_a_smooth_day_is_silent(model):
    states = watch(poisson(course(2 * DAY)), model=model)
    assert not any(state.active for state in states)


@pytest.mark.slow
def test_a_spike_that_the_forecast_covers_is_no_surprise():
    rate = course(4 * DAY)
    minute = np.arange(rate.size) % DAY
    rate = np.where((minute >= 600) & (minute < 615), 2.5 * rate, rate)
    states = watch(poisson(rate), model=forecaster())
    days = [at // DAY for at, state in enumerate(states) if state.began and 600 <= at % DAY < 615]
    assert days[:1] == [0]
    assert 3 not in days


def fan(issued_at, horizon, median, q99):
    quantiles = (*[median * (0.7 + 0.1 * n) for n in range(4)], *[median + (q99 - median) * n / 4 for n in range(1, 5)])
    return Forecast(SeriesKey("m", "p", "r"), issued_at, horizon, quantiles)


def test_a_band_that_is_wide_after_a_burst_silences_nothing():
    detector = SpikeDetector(1.0, 60)
    watch([10.0, 10.1, 9.9] * 40, detector)
    assert detector.observe(7260.0, 40.0, (fan(7200.0, 60, 10.0, 45.0),)).began


@pytest.mark.parametrize(("median", "found"), [(38.0, False), (20.0, True)])
def test_what_was_foretold_a_while_before_is_no_surprise(median, found):
    detector = SpikeDetector(1.0, 60)
    values = [10.0, 10.1, 9.9] * 40
    watch(values[:-15], detector)
    at = 60.0 * (len(values) - 15)
    for minute, value in enumerate(values[-15:]):
        now = at + 60.0 * minute
        ahead = fan(now, 900, median if minute == 1 else 10.0, 45.0)
        assert not detector.observe(now + 60.0, value, (fan(now, 60, 10.0, 11.0), ahead)).active
    assert detector.observe(7260.0, 40.0, (fan(7200.0, 60, 10.0, 11.0),)).began is found


def test_a_near_forecast_that_follows_a_ramp_excuses_nothing():
    detector = SpikeDetector(1.0, 60)
    values = [10.0, 10.1, 9.9] * 40
    watch(values, detector)
    ramp = [10.0 + 2.0 * n for n in range(1, 15)]
    began = []
    for minute, value in enumerate(ramp):
        now = 7200.0 + 60.0 * minute
        began.append(detector.observe(now + 60.0, value, (fan(now, 60, value, 2.0 * value),)).began)
    assert sum(began) == 1


def test_an_episode_ends_when_demand_is_back():
    values = [*[10.0, 10.2, 9.8] * 50, *[40.0] * 10, *[10.0, 10.2, 9.8] * 10]
    states = watch(values)
    ended = [at for at, state in enumerate(states) if state.ended_at is not None]
    assert ended == [150 + 10 + 4]
    assert states[ended[0]].peak == 40.0
    assert states[ended[0]].started_at == states[150].at
    assert not states[ended[0]].active
    assert states[155].level == pytest.approx(10.0)
    assert all(state.active for state in states[150 : ended[0]])


def test_a_new_level_ends_the_episode_after_an_hour():
    values = [*[10.0, 10.2, 9.8] * 50, *[40.0, 40.5, 39.5] * 60]
    states = watch(values)
    assert [at for at, state in enumerate(states) if state.began] == [150]
    assert [at for at, state in enumerate(states) if state.ended_at is not None] == [150 + 60]


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -1.0])
def test_a_gap_neither_starts_nor_ends_a_spike(gap):
    detector = SpikeDetector(1.0, 60)
    watch([10.0, 10.2, 9.8] * 50, detector)
    assert not detector.observe(9060.0, gap).active
    assert not detector.observe(9120.0, 10.0).began
    assert detector.observe(9180.0, 40.0).began
    for at in range(30):
        state = detector.observe(9240.0 + 60.0 * at, gap)
        assert state.active
        assert state.score is None
        assert state.started_at == 9180.0


def test_a_drop_is_no_spike():
    assert not any(state.active for state in watch([*[10.0, 10.2, 9.8] * 50, *[0.0] * 50]))


def both():
    return SpikeDetector(1.0, 60, direction=Direction.BOTH)


ORDINARY = [10.0, 10.2, 9.8] * 50


def test_a_drop_is_a_fall_where_both_directions_are_looked_for():
    states = watch([*ORDINARY, *[1.0] * 10, *[10.0, 10.2, 9.8] * 10], both())
    assert [at for at, state in enumerate(states) if state.began] == [150]
    assert states[150].falls
    assert states[150].ratio == pytest.approx(0.1)
    ended = [at for at, state in enumerate(states) if state.ended_at is not None]
    assert ended == [150 + 10 + 4]
    assert states[ended[0]].falls
    assert states[ended[0]].peak == 1.0


@pytest.mark.parametrize(("far", "last"), [(40.0, 10.0), (1.0, 10.0)])
def test_the_way_back_after_a_long_episode_is_no_news(far, last):
    # Half an hour and more: the median of the recent windows is the new level.
    states = watch([*ORDINARY, *[far, 1.01 * far, 0.99 * far] * 15, *[last, 1.02 * last, 0.98 * last] * 20], both())
    assert [at for at, state in enumerate(states) if state.news] == [150]


def test_what_goes_beyond_the_level_before_is_news_at_once_in_the_rest_of_the_other_direction():
    states = watch([*ORDINARY, *[40.0] * 10, *[0.0] * 10], both())
    began = [(at, state.falls) for at, state in enumerate(states) if state.began]
    assert began == [(150, False), (160, True)]


def test_nothing_is_no_rise_over_nothing():
    # Once 500 has come, the mean of the newest 12 stays high: zeros must not be told for it.
    states = watch([*[0.0] * 300, 500.0, *[0.0] * 30])
    assert [at for at, state in enumerate(states) if state.news] == [300]


def test_a_rise_out_of_silence_must_exceed_the_mean_of_what_has_come():
    random = np.random.default_rng(8)
    bursts = np.where(random.random(600) < 0.1, 100.0, 0.0)
    states = watch([*bursts.tolist(), *[0.0] * 60, 8.0])
    assert not states[-1].news


def test_rises_and_falls_share_the_rate():
    random = np.random.default_rng(11)
    values = 100.0 * np.exp(0.3 * random.standard_t(4, 20 * DAY))
    detectors = {direction: SpikeDetector(2.0, 60, direction=direction) for direction in (Direction.UP, Direction.BOTH)}
    told = {
        direction: sum(state.news for state in watch(values, detector)[2 * DAY :])
        for direction, detector in detectors.items()
    }
    for count in told.values():
        assert count < 1.5 * 2.0 * 18


def test_the_rest_can_be_longer_and_is_never_shorter_than_the_long_window():
    values = [*ORDINARY, *[40.0] * 3, *[10.0, 10.2, 9.8] * 25, 200.0]
    for seconds, news in ((1.0, [150, 228]), (7_200.0, [150])):
        states = watch(values, SpikeDetector(1.0, 60, rest_seconds=seconds))
        assert [at for at, state in enumerate(states) if state.news] == news


def test_zeros_and_first_demand():
    states = watch([*[0.0] * 100, 5.0, 0.0])
    assert states[100].began
    assert states[100].ratio is None
    assert states[99].score == 0.0


@pytest.mark.slow
def test_bursts_raise_the_bar():
    random = np.random.default_rng(2)
    values = poisson(course(6 * DAY))
    values[random.random(values.size) < 0.01] *= 3.0
    states = watch(values)
    began = np.array([state.began for state in states])
    assert began[-2 * DAY :].sum() < began[:DAY].sum()


def test_a_pickled_detector_goes_on_bit_for_bit():
    values = [*poisson(course(600)), *poisson(3.0 * course(100)), *poisson(course(300))]
    whole = watch(values)
    detector = SpikeDetector(1.0, 60)
    watch(values[:620], detector)
    assert watch(values[620:], pickle.loads(pickle.dumps(detector)), start=620) == whole[620:]


def any_kind(false_alerts_per_day=0.5, grain=300.0):
    return SpikeDetector(false_alerts_per_day, grain, 1.0, Direction.BOTH, kind=Kind.ANY)


def news(values, detector, grain=300.0):
    return [at for at, value in enumerate(values) if detector.observe(grain * (at + 1), float(value)).news]


def day_by_day(days, seed=3):
    minute = np.arange(288 * days)
    return 100.0 + 30.0 * np.sin(2.0 * np.pi * minute / 288) + np.random.default_rng(seed).normal(0.0, 2.0, minute.size)


def flat(values):
    values[2_400:2_500] = values[2_400]
    return values


def upside_down(values):
    values[2_304:2_592] = 200.0 - values[2_304:2_592]
    return values


@pytest.mark.slow
@pytest.mark.parametrize("change", [flat, upside_down])
def test_changes_without_a_jump_are_news_of_the_other_kind(change):
    values = change(day_by_day(10))
    found = news(values, any_kind(1.0))
    assert any(2_304 <= at < 2_700 for at in found)
    assert sum(at < 2_304 for at in found) <= 12  # 1 a day


@pytest.mark.slow
def test_what_comes_every_day_is_no_news_after_a_few_days():
    values = np.tile(np.repeat([10.0, 90.0], 144), 14) + np.random.default_rng(5).normal(0.0, 0.5, 288 * 14)
    assert not [at for at in news(values, any_kind(0.1)) if at >= 4 * 288]
    values[3_000:3_003] = 400.0
    assert 3_000 in news(values, any_kind(0.1))


def test_after_an_alert_only_a_greater_surprise_is_news():
    values = day_by_day(8)
    values[2_000] += 100.0
    values[2_003] += 100.0
    values[2_006] += 1_000.0
    found = [at for at in news(values, any_kind(0.1)) if at >= 1_990]
    assert found == [2_000, 2_006]


@pytest.mark.slow
def test_a_pickled_detector_of_any_kind_goes_on_bit_for_bit():
    values = flat(day_by_day(9))
    detector = any_kind()
    news(values[:2_450], detector)
    copy = pickle.loads(pickle.dumps(detector))
    rest = [(300.0 * (at + 1), float(values[at])) for at in range(2_450, 2_592)]
    assert [copy.observe(*step) for step in rest] == [detector.observe(*step) for step in rest]


@pytest.mark.parametrize("kind", Kind)
def test_gaps_and_the_return_are_no_news(kind):
    detector = SpikeDetector(0.2, 300.0, 1.0, Direction.BOTH, kind=kind)
    values = day_by_day(6).tolist()
    for at in [*range(1_000, 1_010), *range(1_200, 1_344)]:
        values[at] = None
    found = [at for at, value in enumerate(values) if detector.observe(300.0 * (at + 1), value).news]
    assert not [at for at in found if 1_000 <= at < 1_030 or 1_200 <= at < 1_364]


@pytest.mark.parametrize("arguments", [(0.0, 60), (math.nan, 60), (1.0, 0.0), (1.0, math.inf), (1.0, 60, 0.5)])
def test_settings_that_cannot_work_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        SpikeDetector(*arguments)


EXPONENTIAL = tuple(-math.log(1.0 - level) for level in LEVELS)


@pytest.mark.parametrize("capacity", [*EXPONENTIAL, 6.0, 9.0])
def test_breach_of_an_exponential_distribution(capacity):
    assert forecast_breach(EXPONENTIAL, LEVELS, capacity) == pytest.approx(math.exp(-capacity), rel=1e-6)


def test_breach_falls_with_capacity_and_stays_a_probability():
    capacities = np.linspace(0.0, 12.0, 200)
    chances = [forecast_breach(EXPONENTIAL, LEVELS, float(capacity)) for capacity in capacities]
    assert (np.diff(chances) <= 0.0).all()
    assert 0.95 <= chances[0] <= 1.0
    assert forecast_breach(EXPONENTIAL, LEVELS, -1.0) == 1.0
    assert forecast_breach(EXPONENTIAL, LEVELS, math.inf) == 0.0


def test_breach_of_a_certain_forecast():
    certain = (5.0,) * len(LEVELS)
    assert forecast_breach(certain, LEVELS, 4.9) == 1.0
    assert forecast_breach(certain, LEVELS, 5.1) == 0.0
    assert forecast_breach((0.0,) * len(LEVELS), LEVELS, 0.0) < 0.05


@pytest.mark.parametrize(
    ("quantiles", "levels", "capacity"),
    [
        ((1.0,), (0.5,), 1.0),
        ((1.0, 2.0), (0.5,), 1.0),
        ((1.0, 2.0), (0.9, 0.5), 1.0),
        ((1.0, 2.0), (0.0, 0.5), 1.0),
        ((1.0, math.nan), (0.1, 0.5), 1.0),
        ((1.0, 2.0), (0.1, 0.5), math.nan),
    ],
)
def test_breach_refuses_nonsense(quantiles, levels, capacity):
    with pytest.raises(ValueError, match=r"levels|numbers"):
        forecast_breach(quantiles, levels, capacity)


CALM = [10.0, 10.4, 9.7, 10.1, 9.5, 10.2] * 40


def test_a_burst_in_pieces_is_told_once_unless_a_piece_is_greater():
    quiet, spike = CALM[:10], 20.0
    pieces = [*CALM, spike, *quiet, 0.95 * spike, *quiet, 5.0 * spike, *quiet]
    states = watch(pieces)
    told = [at for at, state in enumerate(states) if state.news]
    assert told == [len(CALM), len(CALM) + 22]
    assert all(states[at].began for at in told)


def test_what_comes_again_an_hour_later_is_told_again():
    states = watch([*CALM, 20.0, *CALM[:60], 30.0])
    assert [at for at, state in enumerate(states) if state.began] == [len(CALM), len(CALM) + 61]


def test_an_episode_that_grows_is_told_again_and_goes_on():
    states = watch([*CALM, 20.0, 21.0, 200.0, 200.0])
    told = [(state.began, state.news) for state in states[len(CALM) :]]
    assert told == [(True, True), (False, False), (False, True), (False, False)]
    assert {state.started_at for state in states[len(CALM) :]} == {60.0 * (len(CALM) + 1)}
