"""Faults injected into an ordinary series: sound output, and within two hours as good as without the fault."""

import numpy as np
import pytest

from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.types import LEVELS, SeriesKey

STEP = 300
DAY = 288
FAULT = 2 * DAY + 100
MEDIAN, Q95 = LEVELS.index(0.5), LEVELS.index(0.95)


def ordinary():
    at = np.arange(4 * DAY)
    rate = 30.0 * (1.0 + 0.4 * np.sin(2.0 * np.pi * at / DAY))
    return np.random.default_rng(8).poisson(rate * STEP) / STEP * np.random.default_rng(9).lognormal(0, 0.03, at.size)


def gap(values, hours):
    values[FAULT : FAULT + 12 * hours] = np.nan
    return 12 * hours


def zeros(values):
    values[FAULT : FAULT + 3] = 0.0
    return 3


def late(values):
    # Half of two windows is reported ten minutes later.
    values[FAULT : FAULT + 2] *= 0.5
    values[FAULT + 2 : FAULT + 4] *= 1.5
    return 4


def step_up(values):
    values[FAULT:] *= 10.0
    return 1


def burst(values):
    values[FAULT] *= 50.0
    return 1


def tenant_joins(values):
    values[FAULT:] += 25.0
    return 1


def tenant_leaves(values):
    values[FAULT:] *= 0.35
    return 1


FAULTS = {
    "gap of an hour": lambda values: gap(values, 1),
    "gap of six hours": lambda values: gap(values, 6),
    "zeros": zeros,
    "late": late,
    "step of ten": step_up,
    "burst of fifty": burst,
    "tenant joins": tenant_joins,
    "tenant leaves": tenant_leaves,
}


def run(values, jump=0):
    model = SeriesForecaster(SeriesKey("m", "p", "s"), (300, 900), STEP)
    rows = np.full((values.size, 2, len(LEVELS)), np.nan)
    for at, value in enumerate(values.tolist()):
        shift = jump if at >= FAULT else 0
        issued = model.step((at + 1 + shift) * float(STEP), None if np.isnan(value) else value)
        rows[at] = [forecast.quantiles for forecast in issued]
    assert np.isfinite(rows).all()
    assert (rows >= 0.0).all()
    assert (np.diff(rows, axis=2) >= 0.0).all()
    return rows


def wape(rows, values, horizon, first, last):
    steps = (1, 3)[horizon]
    actual = values[first + steps : last + steps]
    return np.abs(actual - rows[first:last, horizon, MEDIAN]).sum() / actual.sum()


@pytest.fixture(scope="module")
def undisturbed():
    values = ordinary()
    return values, run(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_got_over(name, undisturbed):
    calm_values, calm = undisturbed
    values = ordinary()
    lasting = FAULTS[name](values)
    rows = run(values)
    assert np.array_equal(rows[:FAULT], calm[:FAULT])
    # Two hours after the end of the fault, over the six hours that follow.
    first, last = FAULT + lasting + 24, FAULT + lasting + 24 + 72
    for horizon in (0, 1):
        before = wape(calm, calm_values, horizon, first, last)
        assert wape(rows, values, horizon, first, last) <= 1.2 * before + 0.005
    # Within a day the upper quantile covers again.
    covered = (values[first + 1 : first + 1 + DAY] <= rows[first : first + DAY, 0, Q95]).mean()
    assert covered >= 0.90


@pytest.mark.slow
def test_a_change_of_unit_is_got_over_within_a_day():
    # A thousandth of before: what was learned in the old unit has to be forgotten first.
    values = ordinary()
    values[FAULT:] *= 1e-3
    rows = run(values)
    assert wape(rows, values, 0, FAULT + DAY, FAULT + DAY + 150) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("jump", [6, 12 * 24, 10**6])
def test_a_clock_that_jumps_ahead_is_a_gap(jump, undisturbed):
    values, _ = undisturbed
    rows = run(values, jump)
    first = FAULT + 24
    assert wape(rows, values, 0, first, first + 72) <= 0.15


def test_a_clock_that_goes_back_is_refused_and_changes_nothing():
    one, other = (SeriesForecaster(SeriesKey("m", "p", "s"), (300,), STEP) for _ in range(2))
    for at in range(1, 60):
        one.step(at * 300.0, 5.0 + at % 3)
        other.step(at * 300.0, 5.0 + at % 3)
    with pytest.raises(ValueError, match="not after"):
        one.step(3000.0, 1.0)
    assert one.step(60 * 300.0, 5.0) == other.step(60 * 300.0, 5.0)


@pytest.mark.slow
def test_conditional_coverage_and_regret_are_told():
    model = SeriesForecaster(SeriesKey("m", "p", "s"), (300, 900), STEP)
    assert {score.regret for score in model.scores()} == {None}
    values = ordinary()
    values[300::200] *= 4.0
    for at, value in enumerate(values.tolist()):
        model.step((at + 1) * float(STEP), value)
    for score in model.scores():
        assert 0.5 <= score.coverage_95_busy <= 1.0
        assert 0.5 <= score.coverage_95_after_spike <= 1.0
        assert -0.5 < score.regret < 0.1
