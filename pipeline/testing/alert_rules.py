"""Conformance of alert rules: what ``pipeline.alerts.rule.AlertRule`` promises, checked on any rule."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline.alerts.episodes import Episode
from pipeline.alerts.rule import AlertRule, PoolFacts
from pipeline.alerts.rule_evaluation import RuleSet
from pipeline.alerts.rule_registry import check_rule
from pipeline.alerts.types import Alert
from pipeline.publish.json import to_json
from pipeline.publish.metric_catalogue import METRICS
from pipeline.publish.prometheus_rules import rule_file, rule_tests

__all__ = ["check_alert_rule", "raised_alerts"]

#: Names of metrics, not those of recording rules.
_METRIC = re.compile(r"(?<![:\w])tokentide_[a-z0-9_]+")


def check_alert_rule(rule: AlertRule, facts: Sequence[PoolFacts] = (), runbooks: Path | None = None) -> None:
    """Check a rule's texts, its file and, on ``facts``, its check in the engine.

    ``facts`` are what consecutive steps know of one pool, in order of time; a rule of the engine must raise on them at
    least once, and its check must be pure: the same alerts in a second run, and the facts unchanged. ``runbooks`` is
    the folder above the rule's runbook, which must contain the expression; None: the page is not looked for.

    Raises:
        AssertionError: the rule broke a promise; the text says which.
    """
    try:
        check_rule(rule)
    except ValueError as error:
        raise AssertionError(f"{rule.name}: {error}") from error
    (written,) = (r for g in yaml.safe_load(rule_file((rule,)))["groups"] for r in g["rules"] if "alert" in r)
    assert written["expr"] == rule.promql, "the expression must survive the rule file"
    unknown = sorted(set(_METRIC.findall(rule.promql)) - METRICS.keys())
    assert not unknown, f"no metric of Tokentide is called {', '.join(unknown)}"
    yaml.safe_load(rule_tests((rule,)))
    if runbooks is not None:
        page = runbooks / rule.runbook_path
        assert page.is_file(), f"there is no runbook {page}"
        assert rule.promql in page.read_text(encoding="utf-8"), f"{page} does not show the expression"
    if rule.engine is None:
        assert any(case.fires_at for case in rule.cases), "a rule of Prometheus needs a case in which it fires"
        assert any(case.silent_at for case in rule.cases), "a rule of Prometheus needs a case in which it is silent"
        return
    assert facts, "a rule of the engine needs facts that make it raise"
    before = copy.deepcopy(list(facts))
    first, second = raised_alerts(rule, facts), raised_alerts(rule, facts)
    assert first, "the rule raised nothing on these facts"
    assert first == second, "two runs over the same facts differ: the check must have no memory, clock or randomness"
    assert list(facts) == before, "the check must not change the facts"
    for alert in first:
        assert alert.kind == rule.name, "an alert is called like its rule"
        json.loads(to_json(alert))


def raised_alerts(rule: AlertRule, facts: Sequence[PoolFacts]) -> list[Alert]:
    """Return the alerts that began, worsened or ended over ``facts``: consecutive steps of one pool.

    Raises:
        AssertionError: the check of the rule failed.
    """
    rules = RuleSet((rule,))
    episodes: dict[str, Episode] = {}
    told = [alert for step in facts for alert in rules.step(step.window.key, episodes, step)]
    assert not any(rules.errors.values()), f"{rule.name} raised an exception, or returned what is no condition"
    return told
