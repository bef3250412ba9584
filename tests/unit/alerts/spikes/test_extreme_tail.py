import itertools
import math
import pickle

import numpy as np
import pytest

from pipeline.alerts.spikes.extreme_tail import ExtremeTail, fit_pareto
from pipeline.alerts.spikes.references import Moments, Scorer


@pytest.mark.parametrize(("shape", "scale"), [(0.0, 1.0), (0.2, 2.0), (0.4, 0.5)])
def test_the_fit_finds_what_was_drawn(shape, scale):
    uniform = np.random.default_rng(1).random(20_000)
    drawn = -scale * np.log(uniform) if shape == 0 else scale * (uniform**-shape - 1.0) / shape
    found = fit_pareto(drawn.tolist())
    assert found[0] == pytest.approx(shape, abs=0.05)
    assert found[1] == pytest.approx(scale, rel=0.06)


@pytest.mark.parametrize("law", ["normal", "laplace", "t"])
@pytest.mark.parametrize("probability", [0.01, 0.002])
def test_runs_above_the_threshold_are_about_as_rare_as_wanted(law, probability):
    random = np.random.default_rng(5)
    draws = {"normal": random.standard_normal, "laplace": random.laplace, "t": lambda size: random.standard_t(4, size)}
    scores = np.abs(draws[law](size=30_000))
    tail = ExtremeTail(probability)
    above = []
    for score in scores.tolist():
        above.append(score > tail.threshold)
        tail.learn(score)
    runs = int(np.sum(np.diff(np.array([0, *above], dtype=int)) == 1))
    assert 0.4 < runs / (probability * scores.size) < 2.0


def test_a_run_counts_once():
    random = np.random.default_rng(6)
    single, repeated = ExtremeTail(0.005), ExtremeTail(0.005)
    for score in np.abs(random.laplace(size=6_000)).tolist():
        single.learn(score)
        for _ in range(3):
            repeated.learn(score)
    # Every score thrice: as many runs, thrice as many windows, so the same run is a third as frequent.
    assert repeated.chance(6.0) == pytest.approx(single.chance(6.0) / 3.0, rel=0.5)


def test_one_giant_does_not_deafen():
    tail = ExtremeTail(0.005)
    for score in np.abs(np.random.default_rng(7).laplace(size=3_000)).tolist():
        tail.learn(score)
    before = tail.threshold
    tail.learn(1e6)
    assert before <= tail.threshold < 1.5 * before


def test_chance_falls_with_the_score():
    tail = ExtremeTail(0.005)
    for score in np.abs(np.random.default_rng(8).laplace(size=3_000)).tolist():
        tail.learn(score)
    chances = [tail.chance(score) for score in np.linspace(3.0, 30.0, 50)]
    assert all(a > b for a, b in itertools.pairwise(chances))
    assert tail.chance(tail.threshold) == pytest.approx(0.005, rel=0.01)


def test_moments_equal_those_computed_anew():
    random = np.random.default_rng(9)
    # Of numbers that single precision holds, the sums are exact.
    values = (1e3 + random.normal(size=1_000)).astype(np.float32).tolist()
    moments = Moments(50)
    for at, value in enumerate(values):
        moments.push(value)
        newest = np.array(values[max(0, at - 49) : at + 1])
        assert moments.mean() == pytest.approx(newest.mean(), rel=1e-12)
        assert moments.deviation() == pytest.approx(newest.std(), rel=1e-5, abs=1e-12)
    assert len(moments) == 50
    assert Moments(3).mean() == Moments(3).deviation() == Moments(3).root_mean_square() == 0.0


def test_moments_round_numbers_to_single_precision():
    moments = Moments(3)
    for value in (0.1, 0.2, 0.3, 0.4):
        moments.push(value)
    assert moments.mean() == pytest.approx(0.3, rel=1e-7)
    assert moments.mean() == np.mean(np.array([0.2, 0.3, 0.4], dtype=np.float32), dtype=np.float64)


def test_a_missing_window_breaks_the_step_and_moves_the_season_on():
    scorer = Scorer(season=24)
    for at in range(24 * 5):
        scorer.score(float(at % 24)) if scorer.ready() else scorer.warm_up(float(at % 24))
    assert scorer.score(0.0).season == 0.0
    scorer.miss()
    found = scorer.score(2.0)
    assert found.step is None
    assert found.season == 0.0
    for _ in range(22):
        scorer.miss()
    assert scorer.score(1.0).season is None  # the same hour was missing yesterday


def narrow(median, q99):
    return (*[median] * 4, *[median + (q99 - median) * n / 4 for n in range(1, 5)])


def test_a_forecast_is_the_reference_of_the_step_and_its_band_covers():
    scorer = Scorer(season=None)
    for value in [10.0, 11.0, 9.0] * 20:
        scorer.score(value) if scorer.ready() else scorer.warm_up(value)
    plain = pickle.loads(pickle.dumps(scorer)).score(20.0).step
    covered = pickle.loads(pickle.dumps(scorer)).score(20.0, narrow(10.0, 25.0))
    expected = pickle.loads(pickle.dumps(scorer)).score(20.0, narrow(18.0, 19.0)).step
    assert covered.step == 0.0
    assert covered.level > 5.0  # the level is not silenced
    assert 0.0 < expected < 0.5 * plain


def test_what_was_foretold_is_the_reference_of_the_shift():
    random = np.random.default_rng(3)
    kept, moved = Scorer(season=None), Scorer(season=None)
    for at in range(300):
        rise = 0.0 if at < 280 else 30.0
        value = 100.0 + rise + float(random.normal())
        for scorer, foretold in ((kept, 100.0 + rise), (moved, 100.0)):
            found = scorer.score(value, None, foretold) if scorer.ready() else scorer.warm_up(value)
            if at == 299 and scorer is kept:
                assert abs(found.shift) < 4.0
            elif at == 299:
                assert found.shift > 3.0


def test_scores_are_finite_on_constant_and_huge_values():
    for value in (0.0, 5.0, 1e30):
        scorer = Scorer(season=None)
        for _ in range(60):
            if not scorer.ready():
                scorer.warm_up(value)
                continue
            found = scorer.score(value)
            assert all(x is None or math.isfinite(x) for x in (found.level, found.step, found.shift, found.season))


def test_state_pickles():
    tail, scorer = ExtremeTail(0.01), Scorer(season=10)
    for score in np.abs(np.random.default_rng(2).laplace(size=500)).tolist():
        tail.learn(score)
        scorer.score(score) if scorer.ready() else scorer.warm_up(score)
    again = pickle.loads(pickle.dumps(tail))
    assert again.threshold == tail.threshold
    assert pickle.loads(pickle.dumps(scorer)).score(1.0) == scorer.score(1.0)
