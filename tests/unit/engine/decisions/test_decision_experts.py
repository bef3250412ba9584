"""The rules that have cost least decide."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.decisions.decision_experts import Asking, DecisionExperts, consider
from pipeline.engine.decisions.registry import KINDS, decision_rules
from pipeline.forecast.types import LEVELS

RULES = decision_rules(tuple(KINDS))
LEVEL = 0.9
UNKNOWN = np.full((len(LEVELS), 1), np.nan)
NO_SEASON = np.array([np.nan])


def experts() -> DecisionExperts:
    return DecisionExperts(RULES, 1, 1_440, LEVEL)


def followed(subject: DecisionExperts, rates: Iterable[float], ahead: int = 3, first: int = 0) -> list[float]:
    """What is provisioned for after each window, without a forecast."""
    said = []
    for index, rate in enumerate(rates, first):
        subject.learn(index, [rate])
        decision = subject.decide(index, ahead, [rate], UNKNOWN, NO_SEASON)
        assert decision is not None
        said.append(float(decision.demand[0]))
    return said


def cost(said: list[float], came: list[float]) -> float:
    pairs = zip(said, came, strict=True)
    return sum(LEVEL * max(y - p, 0.0) + (1 - LEVEL) * max(p - y, 0.0) for p, y in pairs)


@pytest.mark.parametrize("pattern", ["steady", "saw", "noisy"])
def test_costs_are_near_those_of_the_best_rule(pattern: str) -> None:
    random = np.random.default_rng(5)
    rates = {
        "steady": np.full(900, 10.0),
        "saw": 5.0 + np.arange(900) % 20,
        "noisy": random.gamma(4.0, 2.5, 900),
    }[pattern].tolist()
    ahead = 3
    said = followed(experts(), rates, ahead)
    best = math.inf
    for headroom in (1.0, 1.1, 1.2, 1.3, 1.5, 2.0):
        best = min(best, cost([headroom * rate for rate in rates[:-ahead]], rates[ahead:]))
    # The steady one costs nothing with the right rule: what is lost is what it took to find out.
    assert cost(said[:-ahead], rates[ahead:]) <= 1.03 * best + 0.1 * 3.0 * 60


def test_the_first_rule_decides_until_something_was_learned() -> None:
    subject = experts()
    subject.learn(0, [10.0])
    decision = subject.decide(0, 3, [10.0], UNKNOWN, NO_SEASON)
    assert decision is not None
    assert decision.weights[0][0] == "observed_x1.3"
    assert 10.0 < decision.demand[0] < 15.0


def test_nothing_is_said_before_the_first_window_nor_learned_from_an_unknown_one() -> None:
    subject = experts()
    subject.learn(0, [None])
    subject.learn(1, [math.nan])
    assert subject.decide(1, 3, [1.0], UNKNOWN, NO_SEASON) is None
    followed(subject, [5.0] * 4, first=2)
    before = pickle.dumps(subject)
    subject.learn(6, [None])
    assert pickle.dumps(subject) == before


@given(
    rates=st.lists(st.floats(0.0, 1e12), min_size=2, max_size=40),
    cut=st.integers(0, 39),
    ahead=st.lists(st.integers(1, 9), min_size=40, max_size=40),
)
@settings(max_examples=40, deadline=None)
def test_finite_within_what_rules_say_and_the_same_after_a_restart(
    rates: list[float], cut: int, ahead: list[int]
) -> None:
    one, other = experts(), experts()
    for index, rate in enumerate(rates):
        if index == cut:
            other = pickle.loads(pickle.dumps(other))
        told = []
        for subject in (one, other):
            subject.learn(index, [rate])
            told.append(subject.decide(index, ahead[index], [rate], UNKNOWN, NO_SEASON))
        assert told[0] is not None
        assert told[1] is not None
        assert told[0].weights == told[1].weights
        assert told[0].demand == told[1].demand
        assert 0.0 <= told[0].demand[0] <= 3.6 * max(rates) * (1 + 1e-9)
        assert len(pickle.dumps(one)) < 40_000


def test_what_is_only_considered_says_the_same_and_is_not_learned_of() -> None:
    subject = experts()
    assert consider(Asking(subject, 0, 3, [10.0], UNKNOWN, NO_SEASON)) is None, "no window was seen"
    followed(subject, [10.0, 12.0, 9.0, 30.0, 11.0] * 12)
    before = pickle.dumps(subject)
    for observed in (11.0, 44.0):
        asked = Asking(subject, 59, 3, [observed], UNKNOWN, NO_SEASON)
        said = consider(asked)
        assert pickle.dumps(subject) == before
        decided = pickle.loads(before).decide(59, 3, [observed], UNKNOWN, NO_SEASON)
        assert said is not None
        assert said.demand.tolist() == decided.demand.tolist()
        assert said.weights == decided.weights
