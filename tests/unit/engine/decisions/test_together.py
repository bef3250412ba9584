"""Pools whose rules learn and decide in one pass say, bit for bit, what each says alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipeline.engine.decisions.decision_experts import (
    Asking,
    Decision,
    DecisionExperts,
    Learning,
    decide_together,
    learn_together,
)
from pipeline.engine.decisions.registry import KINDS, decision_rules
from pipeline.engine.decisions.together import Stepping, step_together
from pipeline.forecast.types import LEVELS

SIGNALS = 2
RULES = decision_rules(tuple(KINDS))


def experts(level: float = 0.9, kinds: tuple[str, ...] = tuple(KINDS)) -> DecisionExperts:
    return DecisionExperts(decision_rules(kinds), SIGNALS, 144, level)


def stepped(subject: DecisionExperts, index: int, rates: list[float | None], ahead: int) -> Stepping[Decision | None]:
    """What a pool does in one step; of some windows it does not know the rates, and asks for no decision."""
    yield Learning(subject, index, rates)
    if None in rates:
        return None
    known = [rate for rate in rates if rate is not None]
    quantiles = np.outer(np.linspace(0.5, 2.0, len(LEVELS)), known) if index > 4 else np.full((len(LEVELS), 2), np.nan)
    season = np.array(known) if index > 40 else np.full(SIGNALS, np.nan)
    return (yield Asking(subject, index, ahead, known, quantiles, season))


def test_pools_side_by_side_say_what_each_says_alone() -> None:
    levels, kinds = (0.9, 0.9, 0.9, 0.5, 0.9), (*[tuple(KINDS)] * 4, ("recent_peak",))
    beside = [experts(*settings) for settings in zip(levels, kinds, strict=True)]
    alone = [experts(*settings) for settings in zip(levels, kinds, strict=True)]
    random = np.random.default_rng(3)
    for index in range(160):
        if index == 60:  # the rest continues from snapshots
            beside = pickle.loads(pickle.dumps(beside))
        rates: list[list[float | None]] = random.gamma(4.0, 2.0, (len(beside), SIGNALS)).tolist()
        rates[1][0] = rates[1][0] if index % 5 else None  # its labels do not come with those of others
        ahead = [1 + (index // 50 + at) % 4 for at in range(len(beside))]
        # One joins later, so that not all are settled at once.
        there = range(len(beside) if index > 20 else len(beside) - 3)
        said = step_together([stepped(beside[at], index, rates[at], ahead[at]) for at in there])
        for at in there:
            expected = step_together([stepped(alone[at], index, rates[at], ahead[at])])[0]
            found = said[at]
            if expected is None or found is None:
                assert found is expected
            else:
                assert found.demand.tolist() == expected.demand.tolist()
                assert found.weights == expected.weights
    assert {one.alike for one in beside} == {one.alike for one in alone}
    assert len({one.alike for one in beside}) == 2  # whatever their levels, by the number of rules


def test_one_that_goes_on_alone_goes_on_as_one_that_always_was() -> None:
    """Alone, beside another one until means are forgotten at one rate, and alone again."""
    pair, single = [experts(), experts()], experts()
    random = np.random.default_rng(5)
    for index in range(160):
        rates: list[float | None] = random.gamma(4.0, 2.0, SIGNALS).tolist()
        together = 30 <= index < 130
        steps = [stepped(pair[0], index, rates, 2), *([stepped(pair[1], index, rates, 2)] if together else [])]
        found, expected = step_together(steps)[0], step_together([stepped(single, index, rates, 2)])[0]
        assert found is not None
        assert expected is not None
        assert found.demand.tolist() == expected.demand.tolist(), index
        assert found.weights == expected.weights
        if index == 131:
            assert pickle.dumps(pickle.loads(pickle.dumps(pair[0]))) == pickle.dumps(pair[0])


def test_one_that_does_not_know_its_window_learns_nothing_from_that_of_others() -> None:
    pair = [experts(), experts()]
    for index in range(4):
        learn_together([Learning(one, index, [5.0, 7.0]) for one in pair])
        decide_together(
            [Asking(one, index, 1, [5.0, 7.0], np.full((len(LEVELS), 2), np.nan), np.full(2, np.nan)) for one in pair]
        )
    before = pickle.dumps(pair[1])
    learn_together([Learning(pair[0], 4, [6.0, 8.0]), Learning(pair[1], 4, [6.0, None])])
    assert pickle.dumps(pair[1]) == before


def test_a_step_that_fails_fails_the_steps_beside_it() -> None:
    def broken() -> Stepping[Decision | None]:
        yield Learning(experts(), 0, [1.0, 1.0])
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        step_together([stepped(experts(), 0, [1.0, 1.0], 1), broken()])


def test_pools_that_are_read_share_their_rules() -> None:
    first, second = (pickle.loads(pickle.dumps(experts())) for _ in range(2))
    assert first._rules is second._rules
    assert first.names is second.names
    assert first.names == experts().names
