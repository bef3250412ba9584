"""Conformance check of decision rules."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np

from pipeline.engine.decisions.rule import RECENT, DecisionRule, DemandView
from pipeline.forecast.context import Floats
from pipeline.forecast.types import LEVELS, Signal

__all__ = ["check_decision_rule"]

_UNIT = 1024.0


def check_decision_rule(rule: DecisionRule) -> None:
    """Put a rule through ordinary and extreme demand, with and without forecasts and a season before.

    It must say one demand per variant and signal that is not negative (NaN: not known yet), the same twice and as a
    pickled copy, change nothing that it is shown, and multiply with the unit of demand.

    Raises:
        AssertionError: the rule broke a promise; the text says which.
    """
    assert rule.names, "a rule has at least one variant"
    assert len(set(rule.names)) == len(rule.names), f"the variants need distinct names, not {', '.join(rule.names)}"
    shape = len(rule.names), len(Signal)
    try:
        copied = pickle.loads(pickle.dumps(rule))
    except Exception as error:
        raise AssertionError(f"the rule cannot be pickled: {error}") from error
    for view in _views():
        shown = _times(view, 1.0)
        said = np.array(rule.demands(shown))
        assert said.shape == shape, f"one row per variant and one column per signal is {shape}, not {said.shape}"
        assert _same(shown, view), "a rule must not change what it is shown"
        for again in (rule, copied):
            assert np.array_equal(said, again.demands(shown), equal_nan=True), (
                "two calls differ: a rule must have no memory, clock or randomness"
            )
        assert not (said < 0.0).any(), "a demand must not be negative"
        assert not np.isinf(said).any(), "a demand must be finite, or NaN where it is not known"
        larger = rule.demands(_times(view, _UNIT))
        assert np.allclose(larger, _UNIT * said, equal_nan=True), "the unit of demand must not matter"


def _views() -> Iterator[DemandView]:
    random = np.random.default_rng(5)
    for windows in (1, 2, 7, RECENT):
        for recent in (
            random.gamma(4.0, 25.0, (windows, len(Signal))),
            np.zeros((windows, len(Signal))),
            1e12 * random.random((windows, len(Signal))),
        ):
            unknown = np.full((len(LEVELS), len(Signal)), np.nan)
            quantiles = np.linspace(0.5, 2.0, len(LEVELS))[:, None] * recent[-1]
            for ahead in (1, 60):
                yield DemandView(recent, unknown, unknown[0], ahead)
                yield DemandView(recent, quantiles, recent.max(axis=0), ahead)


def _times(view: DemandView, unit: float) -> DemandView:
    return DemandView(unit * view.recent, unit * view.quantiles, unit * view.season_before, view.ahead)


def _same(one: DemandView, other: DemandView) -> bool:
    pairs: list[tuple[Floats, Floats]] = [
        (one.recent, other.recent),
        (one.quantiles, other.quantiles),
        (one.season_before, other.season_before),
    ]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
