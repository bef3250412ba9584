"""What each decision rule says."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from pipeline import extensions
from pipeline.config.sections import PoolSettings
from pipeline.engine.decisions.forecast_quantile import ForecastQuantile
from pipeline.engine.decisions.observed import Observed
from pipeline.engine.decisions.recent_peak import RecentPeak
from pipeline.engine.decisions.registry import GROUP, KINDS, decision_rules
from pipeline.engine.decisions.rule import DecisionRule, DemandView
from pipeline.engine.decisions.seasonal_peak import SeasonalPeak
from pipeline.engine.decisions.trend import Trend
from pipeline.errors import ConfigError
from pipeline.forecast.context import Floats
from pipeline.testing import check_decision_rule

ROOT = Path(__file__).parents[4]

VIEW = DemandView(
    recent=np.array([[9.0, 90.0], [2.0, 20.0], [4.0, 10.0]]),
    quantiles=np.outer(np.arange(1.0, 9.0), [1.0, 10.0]),
    season_before=np.array([7.0, np.nan]),
    ahead=3,
)


@pytest.mark.parametrize(
    ("rule", "names", "demands"),
    [
        (Observed((1.0, 1.5)), ("observed_x1", "observed_x1.5"), [[4.0, 10.0], [6.0, 15.0]]),
        (RecentPeak(2, (1.0,)), ("peak_2_x1",), [[4.0, 10.0]]),
        (SeasonalPeak((2.0,)), ("season_x2",), [[14.0, np.nan]]),
        (ForecastQuantile((0.5, 0.95)), ("forecast_q50", "forecast_q95"), [[4.0, 40.0], [7.0, 70.0]]),
        # From 9 to 4, and from 90 to 10, in two windows: a fall is not carried on.
        (Trend((1.0,)), ("trend_x1",), [[4.0, 10.0]]),
    ],
)
def test_the_rules(rule: DecisionRule, names: tuple[str, ...], demands: list[list[float]]) -> None:
    assert rule.names == names
    np.testing.assert_allclose(rule.demands(VIEW), demands)


@pytest.mark.parametrize(
    ("recent", "says", "why"),
    [
        ([6.0, 30.0, 30.0, 6.0, 6.0], 6.0, "it came once and has gone"),
        ([6.0, 30.0, 6.0, 24.0, 6.0], 24.0, "it came back to that"),
        ([30.0, 6.0, 30.0], 30.0, "it has come back"),
        ([6.0, 30.0, 29.0, 30.0, 6.0], 6.0, "noise is no fall"),
        ([2.0, 4.0, 6.0, 8.0], 8.0, "it rises"),
        ([8.0, 6.0, 4.0, 2.0], 2.0, "it falls"),
        ([5.0], 5.0, "the first window"),
        ([0.0, 0.0], 0.0, "nothing came"),
    ],
)
def test_a_peak_counts_once_demand_has_come_back_to_it(recent: list[float], says: float, why: str) -> None:
    view = DemandView(np.array(recent)[:, None], VIEW.quantiles[:, :1], VIEW.season_before[:1], 3)
    np.testing.assert_allclose(RecentPeak(60, (1.0, 1.2)).demands(view), [[says], [1.2 * says]], err_msg=why)


def test_a_trend_is_carried_on_up_to_three_times_what_is_observed() -> None:
    view = DemandView(np.array([[1.0, 1.0], [2.0, 9.0]]), VIEW.quantiles, VIEW.season_before, 3)
    np.testing.assert_allclose(Trend((1.0,)).demands(view), [[5.0, 27.0]])
    first = DemandView(view.recent[:1], VIEW.quantiles, VIEW.season_before, 3)
    np.testing.assert_allclose(Trend((1.2,)).demands(first), [[1.2, 1.2]])


def test_a_quantile_that_is_not_forecast_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.8"):
        ForecastQuantile((0.8,))


def test_the_settings_know_the_rules() -> None:
    assert PoolSettings.model_fields["decision_rules"].default == tuple(KINDS)
    names = [name for rule in decision_rules(tuple(KINDS)) for name in rule.names]
    assert len(set(names)) == len(names)
    assert names[0] == decision_rules(("season",))[0].names[0] == "observed_x1.3"
    with pytest.raises(ConfigError, match=r"unknown decision rule 'trends'; did you mean 'trend'\?"):
        decision_rules(("trends",))


@pytest.mark.parametrize("rule", decision_rules(tuple(KINDS)), ids=lambda rule: rule.names[0])
def test_the_rules_conform(rule: DecisionRule) -> None:
    check_decision_rule(rule)


BROKEN: dict[str, Callable[[DemandView], Floats]] = {
    "one row per variant": lambda view: np.vstack((view.recent, view.recent)),
    "must not be negative": lambda view: -1.0 - view.recent[-1:],
    "must be finite": lambda view: np.full_like(view.recent[-1:], np.inf),
    "unit": lambda view: view.recent[-1:] + 1.0,
    "two calls": lambda view: np.full_like(view.recent[-1:], np.random.default_rng().random()),
    "must not change": lambda view: np.multiply(view.recent, 2.0, out=view.recent)[-1:],
}


class BrokenRule:
    names = ("broken",)

    def __init__(self, how: str) -> None:
        self.how = how

    def demands(self, view: DemandView) -> Floats:
        return BROKEN[self.how](view)


@pytest.mark.parametrize("how", BROKEN)
def test_rules_that_do_not_conform_are_told(how: str) -> None:
    with pytest.raises(AssertionError, match=how):
        check_decision_rule(BrokenRule(how))


def test_a_rule_of_another_package_conforms_and_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "decision_rules" / "tokentide_recent_quantile")
    example = importlib.import_module("tokentide_recent_quantile")
    for rule in example.RULES:
        check_decision_rule(rule)
    points = [EntryPoint(name, "tokentide_recent_quantile:RULES", GROUP) for name in ("recent_quantile", "other")]
    monkeypatch.setattr(extensions, "entry_points", lambda group: points if group == GROUP else [])
    found = decision_rules(("recent_quantile",))
    assert [rule.names[0] for rule in found] == ["observed_x1.3", "recent_q90_of_30"]
    with pytest.raises(ConfigError, match="two decision rules are called 'recent_q90_of_30'"):
        decision_rules(("recent_quantile", "other"))
