"""Paths of demand: as spread as the day model says, whole past weeks for shapes, the same for one seed."""

import numpy as np
import pytest

from pipeline.forecast.day_model import DAY_HORIZONS, DayModel
from pipeline.forecast.day_paths import PathSource

HOURS = np.arange(20 * 168)
RATES = 10 * (1 + 0.5 * np.sin(2 * np.pi * HOURS / 24)) * np.random.default_rng(1).lognormal(0, 0.1, HOURS.size)


def source(rates=RATES, first_hour=24 * 20_000):
    found = PathSource()
    found.learn(first_hour, rates)
    return found


@pytest.mark.slow
def test_days_of_paths_are_spread_as_the_day_model_says():
    drawn = source().draw(13, 2000, 3)
    model = DayModel()
    for day, hours in enumerate(RATES.reshape(-1, 24)):
        model.learn(20_000 + day, float(hours.mean()))
        medians, spread = model.forecast()
    days = np.log(drawn.rates.reshape(2000, -1, 24).mean(axis=2))
    for horizon, median, deviation in zip(DAY_HORIZONS, medians, spread, strict=True):
        # A shape's hours do not average to exactly 1.
        assert np.median(days[:, horizon - 1]) == pytest.approx(np.log(median), abs=0.05)
        assert days[:, horizon - 1].std() == pytest.approx(deviation, rel=0.1)


def test_one_seed_gives_one_answer_and_growth_is_told_by_hour():
    first, again, other = source().draw(4, 30, 1), source().draw(4, 30, 1), source().draw(4, 30, 2)
    assert (first.rates == again.rates).all()
    assert not (first.rates == other.rates).all()
    factors = {growth.name: by_hour for growth, by_hour in first.growth}
    assert (factors["expected"] == 1).all()
    assert factors["low"][-1] < 1 < factors["high"][-1]
    assert factors["high"].shape == (4 * 168,)


def test_gaps_and_silence_give_finite_paths():
    holes = RATES.copy()
    holes[100:400] = np.nan
    holes[1000:1300] = 0.0
    drawn = source(holes).draw(3, 20, 0)
    assert np.isfinite(drawn.rates).all()
    assert (drawn.rates >= 0).all()
    assert source(np.full(100, np.nan)).draw(3, 20, 0) is None
    assert source(np.zeros(24 * 20)).draw(1, 20, 0).rates.max() < 1e-3
