"""The budget of false alerts: the delivered rate, what marks do, bounds."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts.feedback import Verdict
from pipeline.alerts.spikes.alert_budget import AlertBudget

PROBABILITY = 0.01


def deliver(scores, budget):
    """Indices of the alerts; each is a window of its own."""
    told = []
    for at, score in enumerate(scores):
        alert = score > budget.threshold and not (told and told[-1] == at - 1)
        budget.learn(float(at), score, told=alert)
        if alert:
            told.append(at)
    return told


@pytest.mark.parametrize("power", [2.0, 6.0, 20.0])
@pytest.mark.parametrize("off", [0.5, 1.0, 2.5])
def test_the_rate_is_the_wanted_one_whatever_the_law_and_however_far_off_its_threshold(power, off):
    uniform = np.random.default_rng(4).random(40_000)
    scores = off * (PROBABILITY / uniform) ** (1.0 / power)
    told = deliver(scores.tolist(), AlertBudget(PROBABILITY))
    late = sum(at >= 2_000 for at in told)
    assert 1.0 / 1.5 < late / (PROBABILITY * 38_000) < 1.5


def test_great_spikes_take_little_of_the_budget():
    random = np.random.default_rng(5)
    ordinary = (PROBABILITY / random.random(20_000)) ** (1.0 / 6.0)
    spiked = ordinary.copy()
    spiked[::100] = 50.0  # as many true ones as false ones are wanted
    told = deliver(spiked.tolist(), AlertBudget(PROBABILITY))
    assert sum(at % 100 == 0 for at in told) >= 198  # one may follow an alert right away
    assert sum(at % 100 != 0 for at in told) > 0.5 * PROBABILITY * 20_000


def told_one(score=1.5):
    budget = AlertBudget(0.001)
    budget.learn(60.0, max(score, 1.01 * budget.threshold), told=True)
    return budget


def test_a_mark_moves_the_threshold_and_a_later_one_replaces_it():
    budget, plain = told_one(), told_one()
    assert budget.mark(60.0, Verdict.FALSE)
    assert budget.threshold > plain.threshold
    raised = budget.threshold
    assert budget.mark(60.0, Verdict.FALSE)
    assert budget.threshold == raised  # the same mark again
    assert budget.mark(60.0, Verdict.USEFUL)
    assert budget.threshold < plain.threshold
    assert not budget.mark(120.0, Verdict.FALSE)  # no such alert


def test_it_settles_where_ordinary_scores_are_as_frequent_as_wanted():
    power = 6.0
    scores = (PROBABILITY / np.random.default_rng(6).random(30_000)) ** (1.0 / power)
    budget = AlertBudget(PROBABILITY)
    seen = []
    for at, score in enumerate(scores.tolist()):
        budget.learn(float(at), score, told=score > budget.threshold)
        seen.append(math.log(budget.threshold))
    assert abs(np.mean(seen[5_000:])) < 0.1
    assert np.std(seen[5_000:]) < 0.1  # a step of 0.2 with every alert would be 0.15 and more


def test_scores_that_were_not_told_teach_too():
    low, high = AlertBudget(PROBABILITY), AlertBudget(PROBABILITY)
    for at in range(4_000):
        low.learn(float(at), 0.21 if at % 2 else 0.0, told=False)
        high.learn(float(at), 0.8 if at % 2 else 0.0, told=False)
    assert high.threshold > 1.5 * low.threshold


def test_alerts_of_one_rest_count_once():
    rested, restless = AlertBudget(1e-4, 100.0, 1.2), AlertBudget(1e-4)
    for at in range(20):
        score = 2.0 if at % 2 else 0.0
        rested.learn(float(at), score, told=False)
        restless.learn(float(at), score, told=False)
    assert restless.threshold > rested.threshold


def test_what_all_know_at_first_is_shared_and_does_not_come_along():
    budget, other = AlertBudget(PROBABILITY), AlertBudget(PROBABILITY)
    again = pickle.loads(pickle.dumps(budget))
    assert again._prior_counts is budget._prior_counts is other._prior_counts
    for at, score in enumerate(np.random.default_rng(3).pareto(2.0, 500).tolist()):
        for one in (budget, again):
            one.learn(float(at), score, told=score > one.threshold)
    assert again.threshold == budget.threshold


def test_a_run_without_end_is_no_single_alert():
    budget = AlertBudget(PROBABILITY)
    for at in range(5_000):
        budget.learn(float(at), 1.05, told=False)
    assert budget.threshold > 0.5  # 0.2 if it counted once


def test_a_run_of_alerted_windows_counts_once():
    one, run = AlertBudget(1e-6), AlertBudget(1e-6)
    for at in range(5):
        one.learn(float(at), 2.0, told=at == 0)
        run.learn(float(at), 2.0, told=True)
    assert run.threshold == one.threshold


@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), st.booleans(), st.sampled_from([None, *Verdict])), max_size=60),
    st.floats(1e-9, 0.5),
)
def test_the_threshold_stays_bounded_and_a_copy_goes_on_alike(course, probability):
    budget = AlertBudget(probability)
    for at, (score, alert, verdict) in enumerate(course):
        if at == 20:
            budget = pickle.loads(pickle.dumps(budget))
        budget.learn(float(at), score, told=alert and score > budget.threshold)
        if verdict is not None:
            budget.mark(float(at - 1), verdict)
        assert math.isfinite(budget.threshold)
        assert 0.19 < budget.threshold < 6.01
    copy = pickle.loads(pickle.dumps(budget))
    for each in (copy, budget):
        each.learn(1e3, 9.0, told=True)
    assert copy.threshold == budget.threshold
