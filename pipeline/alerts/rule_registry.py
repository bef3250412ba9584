"""Alert rules in force: the modules of ``pipeline.alerts.rules``, and rules of other packages that settings name."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from pipeline.alerts import rules as builtin_package
from pipeline.alerts.rule import GROUPS, AlertRule
from pipeline.alerts.types import AlertKind
from pipeline.config.alerts import AlertRuleSettings
from pipeline.errors import ConfigError
from pipeline.extensions import available, load_extension

__all__ = ["GROUP", "alert_rules", "builtin_rules", "check_rule", "engine_kinds", "rule_names"]

#: Entry point group in which other distributions register alert rules.
GROUP = "tokentide.alert_rules"

#: The first places of each group in the rule file and in the index of runbooks; other rules follow by name.
_FIRST = (
    *("spike_forecast", "spike_observed", "demand_drop"),
    *("capacity_shortfall", "capacity_at_max", "scale_down_opportunity", "slo_infeasible"),
    "forecast_degraded",
    *("recommendation_stale", "telemetry_gap", "no_events", "events_rejected", "events_lost", "pipeline_lagging"),
    *("store_write_failing", "not_ready", "down"),
)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ALERT = re.compile(r"[A-Z][A-Za-z0-9]{0,127}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@cache
def builtin_rules() -> Mapping[str, AlertRule]:
    """Return the rules of this distribution by name, in the order of the rule file."""
    found = {}
    for module in pkgutil.iter_modules(builtin_package.__path__):
        rule: AlertRule = import_module(f"{builtin_package.__name__}.{module.name}").RULE
        if rule.name != module.name:
            raise ValueError(f"the rule in {module.name}.py is called {rule.name!r}")
        found[rule.name] = check_rule(rule)
    return {rule.name: rule for rule in _ordered(found.values())}


def rule_names() -> list[str]:
    """Return the names that can be configured, those of other distributions too."""
    return available(GROUP, builtin_rules())


def alert_rules(overrides: Mapping[str, AlertRuleSettings] | None = None) -> tuple[AlertRule, ...]:
    """Return the rules in force, in the order of the rule file.

    Built-in rules are in force unless they are switched off; those of other distributions where ``overrides`` (from
    settings, by name) names them.

    Raises:
        ConfigError: a rule does not exist or cannot be imported, or an override does not fit it; the text names it.
    """
    overrides = overrides or {}
    found = dict(builtin_rules())
    for name, said in overrides.items():
        rule = load_extension(GROUP, name, found, "alert rule")
        if said.enabled:
            found[name] = _overridden(_checked(name, rule), said)
        else:
            found.pop(name, None)
    alerts: dict[str, str] = {}
    for rule in found.values():
        other = alerts.setdefault(rule.alert, rule.name)
        if other != rule.name:
            raise ConfigError(f"alerts.rules.{rule.name}: the alert {rule.alert} is that of the rule {other}, too")
    return tuple(_ordered(found.values()))


def engine_kinds(rules: Sequence[AlertRule]) -> list[AlertRule]:
    """Return the rules that the engine checks, in the order in which it reports them: the oldest kinds first."""
    first = {str(kind): place for place, kind in enumerate(AlertKind)}
    engine = (rule for rule in rules if rule.engine is not None)
    return sorted(engine, key=lambda rule: (first.get(rule.name, len(first)), rule.name))


def check_rule(rule: AlertRule) -> AlertRule:
    """Return ``rule`` if it is well-formed.

    Raises:
        ValueError: a name, a group, a severity, a duration, a label or a threshold is wrong, or a text is missing.
    """
    for what, text, pattern in (("name", rule.name, _NAME), ("alert", rule.alert, _ALERT)):
        if not pattern.fullmatch(text):
            raise ValueError(f"{what} {text!r} does not match {pattern.pattern}")
    if rule.group not in GROUPS:
        raise ValueError(f"group {rule.group!r} is none of {', '.join(GROUPS)}")
    if rule.severity not in ("info", "warning", "critical"):
        raise ValueError(f"severity {rule.severity!r} is none of info, warning, critical")
    if not 0 <= rule.for_seconds <= 30 * 86_400:
        raise ValueError(f"for_seconds ({rule.for_seconds}) must be 0 to 30 days")
    for label in rule.labels:
        if not _LABEL.fullmatch(label) or label == "severity":
            raise ValueError(f"{label!r} is not a label that a rule may add")
    if not rule.summary.endswith(".") or "{{" in rule.summary or not rule.description:
        raise ValueError("a rule needs a summary of plain text that ends with a full stop, and a description")
    if rule.threshold_names() - rule.thresholds.keys():
        missing = ", ".join(sorted(rule.threshold_names() - rule.thresholds.keys()))
        raise ValueError(f"no value for the threshold {missing}")
    if not rule.expr and rule.engine is None:
        raise ValueError("a rule needs expr, engine, or both")
    return rule


def _checked(name: str, rule: Any) -> AlertRule:
    """A rule that an entry point names."""
    try:
        if not isinstance(rule, AlertRule):
            raise ValueError(f"the entry point names a {type(rule).__name__}, not an AlertRule")
        if rule.name != name:
            raise ValueError(f"the rule is called {rule.name!r}")
        return check_rule(rule)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"alert rule {name!r}: {error}") from error


def _overridden(rule: AlertRule, said: AlertRuleSettings) -> AlertRule:
    unknown = sorted(said.thresholds.keys() - rule.thresholds.keys())
    if unknown:
        known = ", ".join(sorted(rule.thresholds)) or "none"
        raise ConfigError(f"alerts.rules.{rule.name}.thresholds: unknown {', '.join(unknown)}; the rule has {known}")
    return replace(
        rule,
        for_seconds=rule.for_seconds if said.for_seconds is None else said.for_seconds,
        severity=said.severity or rule.severity,
        thresholds={**rule.thresholds, **said.thresholds},
    )


def _ordered(rules: Any) -> list[AlertRule]:
    first = {name: place for place, name in enumerate(_FIRST)}
    return sorted(rules, key=lambda r: (GROUPS.index(r.group), first.get(r.name, len(first)), r.name))
