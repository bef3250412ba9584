"""Checks the engine's alert rules against what a step knows of a pool."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from pipeline.alerts.episodes import SEVERITIES, Condition, Episode
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts
from pipeline.alerts.rule_registry import engine_kinds
from pipeline.alerts.types import Alert, AlertKind
from pipeline.windows.types import PoolKey

__all__ = ["RuleSet"]

_log = logging.getLogger(__name__)

_MAX_MESSAGE = 4_096


class RuleSet:
    """The engine's rules, in order; ``errors`` counts by rule how often one failed since the process started."""

    def __init__(self, rules: Sequence[AlertRule]) -> None:
        kinds: dict[str, str] = {str(kind): kind for kind in AlertKind}
        self._rules: list[tuple[str, EngineRule, Mapping[str, float]]] = [
            (kinds.get(rule.name, rule.name), rule.engine, rule.thresholds)
            for rule in engine_kinds(rules)
            if rule.engine is not None
        ]
        self.errors: dict[str, int] = {str(name): 0 for name, _, _ in self._rules}

    def step(self, key: PoolKey, episodes: dict[str, Episode], facts: PoolFacts) -> tuple[Alert, ...]:
        """Bring the pool's ``episodes`` (by rule) up to date and return the alerts that began, worsened or ended.

        A rule that raises, or returns what is no condition, is counted and leaves its episode as it is. The episode of
        a rule that is no longer in force ends as if its condition had gone.
        """
        now = float(facts.window.end)
        told: list[Alert | None] = []
        for name, rule, thresholds in self._rules:
            try:
                condition = _usable(rule.condition(facts, thresholds))
            except Exception as error:  # a rule of another package must not stop the engine
                self._failed(name, error)
                continue
            episode = episodes.get(name)
            if episode is None:
                episode = episodes[name] = Episode(key, name, rule.calm_steps)
            told.append(episode.step(now, condition))
        for name in sorted(episodes.keys() - self.errors.keys()):
            told.append(episodes[name].step(now, None))
            if episodes[name].current is None:
                del episodes[name]
        return tuple(alert for alert in told if alert is not None)

    def _failed(self, name: str, error: Exception) -> None:
        if not self.errors[name]:
            _log.error("alert rule %s failed; further failures are only counted: %r", name, error)
        self.errors[name] += 1


def _usable(condition: Condition | None) -> Condition | None:
    """The condition, if it can be published.

    Raises:
        TypeError, ValueError: it is none, or its numbers are not finite.
    """
    if condition is None:
        return None
    if not isinstance(condition, Condition) or not isinstance(condition.message, str):
        raise TypeError(f"a rule must return a Condition or None, not {condition!r:.200}")
    if condition.severity not in SEVERITIES or len(condition.message) > _MAX_MESSAGE:
        raise ValueError(f"severity {condition.severity!r}, {len(condition.message)} characters of message")
    numbers = [n for n in (condition.onset_at, condition.ratio, condition.probability) if n is not None]
    if not all(math.isfinite(number) for number in numbers) or condition.onset_at < 0:
        raise ValueError(f"a condition with impossible numbers: {numbers}")
    return condition
