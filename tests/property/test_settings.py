"""Settings that are accepted give an advisor that can step; those that would stop one are refused."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepInput
from pipeline.forecast.model import SeriesKey, Signal
from pipeline.forecast.series import SeriesForecaster
from pipeline.settings import Settings
from pipeline.testing import closed_window

START = 1_700_000_000

ROUGH = st.sampled_from((1e-6, 0.1, 1.0, 50.0, 1e6))


@st.composite
def candidates(draw):
    grain = draw(st.sampled_from((10, 20, 30, 60, 120, 300, 3600, 86_400)))
    whole = st.integers(1, 40).map(lambda windows: grain * windows)
    any_seconds = st.integers(1, 4_000)
    horizons = st.one_of(
        st.lists(whole, min_size=1, max_size=4, unique=True).map(sorted),
        st.lists(st.one_of(whole, any_seconds), max_size=3),
    )
    return {
        "windows": {"grain_seconds": grain},
        "forecast": {
            "horizons_seconds": draw(horizons),
            "season_seconds": draw(st.one_of(whole, st.just(40 * grain), st.just(1_440 * grain), any_seconds)),
        },
        "advise": {"false_alerts_per_day": draw(ROUGH), "gap_accept_seconds": draw(ROUGH)},
        "pools": [
            {
                "model": "m",
                "profile": "llama-3.1-8b",
                "accelerator": "L40S",
                "min_replicas": draw(st.integers(0, 6)),
                "max_replicas": draw(st.integers(1, 6)),
                "initial_replicas": draw(st.none() | st.integers(1, 9)),
                "under_to_over_cost": draw(ROUGH),
                "lead_time_seconds": draw(ROUGH),
            }
        ],
    }


def step(values):
    """Two steps, a snapshot, two more; the counts are no matter."""
    advisor = Advisor(values)
    grain = values.windows.grain_seconds
    start = START // grain * grain
    for number in range(4):
        window = closed_window(start + grain * number, 90 + number, model="m", pool="default", e2e_milliseconds=6_000)
        end = start + grain * (number + 1)
        output = advisor.step(StepInput(end, (replace(window, grain_seconds=grain),)))
        if number == 1:
            advisor = Advisor.restore(values, advisor.snapshot())
    assert len(output.forecasts) == len(Signal) * len(values.forecast.horizons_seconds)
    assert len(output.recommendations) == len(values.pools)


@given(candidates())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_accepted_settings_can_be_stepped_and_refused_ones_could_not(values):
    try:
        accepted = Settings(**values)
    except ValidationError:
        assert crossed(values) or not forecastable(values)
    else:
        step(accepted)


def crossed(values):
    return values["pools"][0]["min_replicas"] > values["pools"][0]["max_replicas"]


def forecastable(values):
    """What the forecaster itself says of horizons, season and grain."""
    forecast = values["forecast"]
    try:
        SeriesForecaster(
            SeriesKey("m", "default", Signal.REQUESTS),
            forecast["horizons_seconds"],
            values["windows"]["grain_seconds"],
            forecast["season_seconds"],
        )
    except ValueError:
        return False
    return True


def test_both_are_tried():
    """The property says little if nearly everything is refused."""
    outcomes = []

    @given(candidates())
    @settings(max_examples=200, deadline=None, database=None)
    def count(values):
        outcomes.append(not crossed(values) and forecastable(values))

    count()
    assert 10 <= sum(outcomes) <= len(outcomes) - 10
