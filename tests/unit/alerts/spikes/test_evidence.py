import math
import pickle

import numpy as np
import pytest

from pipeline.alerts.spikes.evidence import Evidence, Rarity, joint_chance


def test_rarity_is_the_share_of_the_past_that_was_as_great():
    random = np.random.default_rng(1)
    rarity = Rarity()
    assert [rarity.observe(score) for score in random.exponential(size=24)] == [None] * 24
    for score in random.exponential(size=3_000):
        rarity.observe(score)
    for share in (0.5, 0.1, 0.01):
        score = -math.log(share)
        assert pickle.loads(pickle.dumps(rarity)).observe(score) == pytest.approx(score, abs=0.35)


def test_beyond_all_before_the_farther_the_rarer():
    rarity = Rarity()
    for score in np.random.default_rng(2).random(1_000):
        rarity.observe(float(score))
    found = [pickle.loads(pickle.dumps(rarity)).observe(score) for score in (1.0, 2.0, 20.0, 1e300)]
    assert found == sorted(set(found))
    assert found[0] >= math.log(500)


def test_ties_are_not_rare():
    rarity = Rarity()
    assert {rarity.observe(0.0) for _ in range(100)} <= {None, 0.0}


def test_old_scores_fade():
    rarity = Rarity()
    for score in [100.0] * 500 + [1.0] * 30_000:
        rarity.observe(score)
    assert rarity.observe(50.0) > math.log(1_500)  # as if the great ones had hardly been


@pytest.mark.slow
def test_a_long_life_keeps_the_weights_finite():
    rarity = Rarity()
    for _ in range(100_000):
        rarity.observe(1.0)
    assert rarity.observe(1.0) == pytest.approx(0.0, abs=1e-6)
    assert math.isfinite(rarity.observe(2.0))


@pytest.mark.parametrize("measures", [1, 3, 5])
def test_the_joint_chance_is_that_of_independent_shares(measures):
    drawn = np.random.default_rng(3).exponential(size=(20_000, measures)).sum(axis=1)
    chances = np.array([joint_chance(float(total), measures) for total in drawn])
    assert np.mean(chances < 0.05) == pytest.approx(0.05, abs=0.006)
    assert np.mean(chances < 0.5) == pytest.approx(0.5, abs=0.015)
    assert joint_chance(1e4, measures) > 0.0


def noise(length, seed=4):
    return 100.0 + np.random.default_rng(seed).normal(0.0, 5.0, length)


def chances(values, gaps=()):
    evidence, found = Evidence(300.0), []
    for at, value in enumerate(values.tolist()):
        if at in gaps:
            evidence.miss()
            continue
        found.append(evidence.observe(300.0 * (at + 1), value, 100.0, 5.0))
    return found


@pytest.mark.slow
def test_ordinary_windows_are_as_rare_as_their_chance():
    found = np.array([chance for chance in chances(noise(6_000)) if chance is not None])
    for level in (0.1, 0.01):
        assert np.mean(found < level) < 2.0 * level


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (lambda values: values + np.linspace(0.0, 15.0, values.size), 0.3),
        (lambda values: np.full_like(values, 114.0), 0.5),
        (lambda values: values + 60.0 * (np.arange(values.size) == 30), 1 / 72),
    ],
    ids=["drift", "plateau", "spike"],
)
def test_each_kind_of_change_is_improbable(change, share):
    values = noise(2_500)
    values[2_400:2_472] = change(values[2_400:2_472])
    found = np.array(chances(values), dtype=float)
    assert np.mean(found[2_400:2_472] < np.quantile(found[300:2_400], 0.003)) >= share


def test_gaps_are_no_evidence():
    found = chances(noise(2_000), gaps=set(range(1_000, 1_200)))
    assert min(found[1_000:1_010]) > 1e-3


def test_too_little_known_is_unknown():
    assert chances(noise(24)) == [None] * 24
    assert chances(noise(200))[-1] is not None


def test_what_is_beyond_all_comparison_is_rare_and_no_accident_of_arithmetic():
    rarity = Rarity()
    for score in [0.0] * 200 + [5e-324] * 50:
        rarity.observe(score)
    found = rarity.observe(1e308)
    assert math.isfinite(found)
    assert found > math.log(200)
    assert joint_chance(found, 5) < 1e-6
