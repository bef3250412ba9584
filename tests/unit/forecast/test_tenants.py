"""Tenants of their own, the rest, and sums that add up."""

import pickle

import numpy as np
import pytest

from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.series import SeriesForecaster
from pipeline.forecast.tenants import TenantForecaster
from pipeline.forecast.types import LEVELS, SeriesKey
from pipeline.windows.types import REST

KEY = SeriesKey("m", "p", "requests_per_second")
GRAIN = 1800.0
MEDIAN = LEVELS.index(0.5)


def forecaster(limit=3):
    return TenantForecaster(KEY, (1800, 7200), GRAIN, limit)


def rates(index, **more):
    random = np.random.default_rng([4, index])
    wave = 1.0 + 0.5 * np.sin(2.0 * np.pi * index / 48)
    small = {f"s{number}": float(random.exponential(0.2)) for number in range(10)}
    return small | {"big": 20.0 * wave, "flat": 5.0 + float(random.normal(0.0, 0.1))} | more


def total_of(row):
    return None if row is None else sum(rate for rate in row.values() if 0.0 <= rate < 1e15)


def run(model, rows, start=0, calendar=()):
    return [model.step((start + at + 1) * GRAIN, total_of(row), row, calendar) for at, row in enumerate(rows)]


def assert_coherent(said):
    for at, total in enumerate(said.total):
        added = sum(forecasts[at].quantiles[MEDIAN] for forecasts in said.parts.values())
        assert added == pytest.approx(total.quantiles[MEDIAN], rel=1e-9, abs=1e-9)
        for forecasts in said.parts.values():
            assert list(forecasts[at].quantiles) == sorted(forecasts[at].quantiles)
            assert forecasts[at].quantiles[0] >= 0.0


@pytest.mark.slow
def test_the_heavy_have_series_and_sums_add_up():
    model = forecaster()
    said = run(model, [rates(at) for at in range(100)])
    assert set(model.tenants) == {"big", "flat"}
    assert set(said[-1].parts) == {"big", "flat", REST}
    for one in said:
        assert_coherent(one)
    flat = said[-1].parts["flat"][0].quantiles[MEDIAN]
    assert flat == pytest.approx(5.0, rel=0.1)
    assert said[-1].parts["big"][0].series == KEY


@pytest.mark.slow
def test_tenants_join_and_leave_and_are_never_too_many():
    model = forecaster(limit=2)
    run(model, [rates(at) for at in range(60)])
    said = run(model, [rates(at, new=40.0) for at in range(60, 200)], 60)
    assert len(model.tenants) <= 2
    assert_coherent(said[-1])
    gone = [{name: rate for name, rate in rates(at).items() if name != "big"} for at in range(200, 600)]
    said = run(model, gone, 200)
    assert "big" not in model.tenants
    assert_coherent(said[-1])
    total = sum(gone[-1].values())
    assert said[-1].total[0].quantiles[MEDIAN] == pytest.approx(total, rel=0.25)


def test_a_gap_is_not_a_zero():
    model = forecaster()
    run(model, [rates(at) for at in range(60)])
    before = [score.matured for score in model.scores()]
    held = run(model, [None] * 5, 60)[-1]
    assert held.total[0].quantiles[MEDIAN] > 10.0
    assert_coherent(held)
    run(model, [rates(at) for at in range(65, 70)], 65)
    after = [score.matured for score in model.scores()]
    assert [b - a for a, b in zip(before, after, strict=True)] == [4, 1], "what was said in a gap is not scored"


@pytest.mark.slow
def test_hostile_tenants_stay_bounded():
    model = forecaster()
    random = np.random.default_rng(2)
    rows = []
    for at in range(150):
        names = {f"t{number}": float(random.pareto(1.0)) for number in random.integers(0, 10**9, 50)}
        rows.append(names | {"x": float("nan"), "y": -5.0, "z": 1e300} if at % 7 == 0 else names)
    for said in run(model, rows):
        assert len(said.parts) <= 4
        assert_coherent(said)
    assert len(pickle.dumps(model)) < 130_000


@pytest.mark.slow
def test_a_pickled_copy_goes_on_bit_for_bit():
    rows = [rates(at) for at in range(120)]
    model = forecaster()
    run(model, rows[:70])
    copy = pickle.loads(pickle.dumps(model))
    assert run(model, rows[70:], 70) == run(copy, rows[70:], 70)


@pytest.mark.slow
def test_while_nobody_is_heavy_the_total_is_all_there_is():
    model, alone = forecaster(), SeriesForecaster(KEY, (1800, 7200), GRAIN)
    random = np.random.default_rng(3)
    for at in range(80):
        crowd = {f"s{number}": float(random.exponential(1.0)) for number in range(at, at + 60)}
        crowd = {name: min(rate, 2.0) for name, rate in crowd.items()}
        said = model.step((at + 1) * GRAIN, total_of(crowd), crowd)
        assert said.total == alone.step((at + 1) * GRAIN, total_of(crowd))
        assert said.parts == {REST: said.total}
    assert len(pickle.dumps(model)) < 1.6 * len(pickle.dumps(alone))
    said = run(model, [rates(at) for at in range(80, 140)], 80)
    assert {"big", REST} <= set(said[-1].parts)
    assert_coherent(said[-1])


@pytest.mark.slow
def test_the_sum_counts_only_once_it_has_been_tried():
    model, alone = forecaster(), SeriesForecaster(KEY, (1800, 7200), GRAIN)
    for at in range(150):
        row = rates(at)
        end, total = (at + 1) * GRAIN, total_of(row)
        said, own = model.step(end, total, row if at >= 100 else None), alone.step(end, total)
        if at <= 100:
            assert said.total == own, "nothing of the parts' has come true yet"
        assert_coherent(said)
    assert set(said.parts) == {"big", "flat", REST}
    assert said.total != own


@pytest.mark.slow
def test_only_the_heaviest_have_to_be_named():
    model = forecaster()
    rows = [rates(at) for at in range(100)]
    for at, row in enumerate(rows):
        named = {name: row[name] for name in sorted(row, key=row.__getitem__)[-3:]} | {REST: 1e9}
        said = model.step((at + 1) * GRAIN, total_of(row), named)
        assert_coherent(said)
    assert set(model.tenants) == {"big", "flat"}
    rest = total_of(rows[-1]) - rows[-1]["big"] - rows[-1]["flat"]
    assert said.parts[REST][0].quantiles[MEDIAN] == pytest.approx(rest, rel=0.5)


@pytest.mark.slow
def test_a_heavy_one_that_is_no_longer_named_is_gone():
    model = forecaster()
    run(model, [rates(at) for at in range(60)])
    said = [model.step((60 + at + 1) * GRAIN, 8.0, {"flat": 5.0}) for at in range(10)]
    assert said[-1].parts["big"][0].quantiles[MEDIAN] < 1.0
    assert said[-1].total[0].quantiles[MEDIAN] == pytest.approx(8.0, rel=0.2)


@pytest.mark.slow
def test_without_a_breakdown_only_the_total_learns():
    model = forecaster()
    run(model, [rates(at) for at in range(60)])
    said = [model.step((60 + at + 1) * GRAIN, 80.0, None) for at in range(10)]
    assert set(model.tenants) == {"big", "flat"}
    assert said[-1].total[0].quantiles[MEDIAN] > 50.0
    assert_coherent(said[-1])


@pytest.mark.slow
def test_its_scores_are_those_of_what_was_said():
    model = forecaster()
    rows = [rates(at) for at in range(200)]
    said = run(model, rows)
    errors = [abs(total_of(rows[at + 1]) - said[at].total[0].quantiles[MEDIAN]) for at in range(199)]
    score = model.scores()[0]
    assert score.matured == 199
    keep = np.exp(-1.0 / (2 * 48)) ** np.arange(198, -1, -1)
    demand = [total_of(row) for row in rows[1:]]
    assert score.wape == pytest.approx((keep @ errors) / (keep @ demand), rel=1e-3)


@pytest.mark.slow
def test_announced_events_move_every_part():
    event = CalendarRecord("c", "campaign", 105 * GRAIN, 110 * GRAIN, expected_size=3.0, confidence=0.9)
    plain, told = forecaster(), forecaster()
    rows = [rates(at) for at in range(104)]
    without, with_it = run(plain, rows)[-1], run(told, rows, calendar=(event,))[-1]
    for name in ("big", "flat", REST):
        assert with_it.parts[name][1].quantiles[MEDIAN] > 1.3 * without.parts[name][1].quantiles[MEDIAN]
    assert_coherent(with_it)


@pytest.mark.parametrize("tiny", [1e-170, 1e-300, 5e-324])
def test_errors_that_have_faded_to_nearly_nothing_still_share_out(tiny):
    model = forecaster()
    run(model, [rates(at) for at in range(60)])
    model._errors = [[tiny, tiny] for _ in model._errors]
    said = model.step(61 * GRAIN, 0.0, {})
    assert all(np.isfinite(forecast.quantiles).all() for forecast in said.total)
