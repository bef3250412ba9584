"""Settings that are accepted give an advisor that can step; those that would stop one are refused."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import SeriesKey, Signal
from pipeline.testing import closed_window

START = 1_700_000_000

ROUGH = st.sampled_from((1e-6, 0.1, 1.0, 50.0, 1e6))


#: What is done to horizons and season that fit; most of it makes them impossible, but not all, always.
FAULTS = (
    "no horizon",
    "uneven horizon",
    "uneven season",
    "repeat",
    "descending",
    "season at the horizon",
    "beyond",
    "two windows",
)


@st.composite
def candidates(draw, fault=""):
    grain = draw(st.sampled_from((10, 20, 30, 60, 120, 300, 3600, 86_400)))
    horizons = sorted(draw(st.lists(st.integers(1, 40).map(lambda n: grain * n), min_size=1, max_size=4, unique=True)))
    season = horizons[-1] + grain * draw(st.sampled_from((2, 3, 60, 1_440)))
    off = draw(st.integers(1, grain - 1))
    if fault == "no horizon":
        horizons = []
    elif fault == "uneven horizon":
        horizons[-1] += off
    elif fault == "uneven season":
        season += off
    elif fault == "repeat":
        horizons.append(horizons[-1])
    elif fault == "descending":
        horizons.insert(0, horizons[-1] + grain)
    elif fault == "season at the horizon":
        season = horizons[-1]
    elif fault == "two windows":
        horizons, season = [grain], 2 * grain
    elif fault == "beyond":
        season = max(grain, horizons[-1] - grain)
    return {
        "windows": {"grain_seconds": grain},
        "forecast": {"horizons_seconds": horizons, "season_seconds": season},
        "advise": {"false_alerts_per_day": draw(ROUGH), "gap_accept_seconds": draw(ROUGH)},
        "pools": [
            {
                "model": "m",
                "profile": "llama-3.1-8b",
                "accelerator": "L40S",
                "min_replicas": draw(st.integers(0, 6)),
                "max_replicas": draw(st.integers(6, 9)),
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
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_fits_is_accepted_and_can_be_stepped(values):
    step(Settings(**values))


@pytest.mark.parametrize("fault", FAULTS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_accepted_can_be_stepped_and_what_is_refused_could_not(fault, data):
    values = data.draw(candidates(fault))
    try:
        accepted = Settings(**values)
    except ValidationError:
        assert not forecastable(values)
    else:
        step(accepted)


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
