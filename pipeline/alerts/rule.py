"""What an alert rule is: an expression for Prometheus, its texts and its runbook, and for some a check in the engine.

A rule is one module in ``pipeline/alerts/rules`` that defines ``RULE``, or an object of another distribution that an
entry point in the group ``tokentide.alert_rules`` names. Prometheus' rule file, its tests, the metrics, the board, the
JSON Schema of alerts and the index of runbooks are made from the rules or checked against them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.alerts.episodes import Condition
from pipeline.forecast.calendar.effects import CalendarRecord
from pipeline.forecast.types import Forecast, Signal
from pipeline.windows.types import ClosedWindow
from sizing.types import Recommendation

__all__ = ["GROUPS", "AlertRule", "EngineRule", "Panel", "PoolFacts", "RuleCase", "SpikeLabels", "prometheus_duration"]

#: Groups of the rule file, in its order.
GROUPS = ("demand", "capacity", "forecast", "pipeline", "losses")

_THRESHOLD = re.compile(r"<([a-z][a-z0-9_]*)( %)?>")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What one step knows of one pool, for the rules that the engine checks.

    ``window`` is the newest closed one (``window.gap``: telemetry is missing), ``rates`` its demand by signal (None:
    unknown), ``forecasts`` those issued with it, ``recommendation`` the advice that follows (None: none), ``calendar``
    the announced events near it. ``configured``: settings name the pool. ``spike_observed``, ``spike_forecast`` and
    ``demand_drop`` are what the spike detector found. ``missing`` says in words which events have not come (empty: none
    known).
    """

    window: ClosedWindow
    rates: Mapping[str, float | None]
    forecasts: Mapping[Signal, tuple[Forecast, ...]]
    recommendation: Recommendation | None
    calendar: Sequence[CalendarRecord] = ()
    configured: bool = True
    spike_observed: Condition | None = None
    spike_forecast: Condition | None = None
    missing: tuple[str, ...] = ()
    demand_drop: Condition | None = None


@dataclass(frozen=True, slots=True)
class SpikeLabels:
    """Values of the label ``kind`` of the spike metrics: ``spike``; ``held`` where the replicas in place suffice."""

    spike: str
    held: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRule:
    """The check of a rule in the engine, once per pool and closed window.

    ``condition(facts, thresholds)`` returns what it sees, or None. It must be a pure function: no clock, no I/O, no
    memory; episodes (onset, worsening, end after ``calm_steps`` windows without the condition) are made around it.
    ``title`` heads the alert on the board, ``one`` and ``many`` count alerts in its summary ("1 telemetry gap"),
    ``colour`` is that of its mark there. ``spike``: the kind is a spike and has these labels in the spike metrics.
    """

    condition: Callable[[PoolFacts, Mapping[str, float]], Condition | None]
    title: str
    one: str
    many: str
    colour: Literal["red", "amber"] = "amber"
    calm_steps: int = 3
    spike: SpikeLabels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart of a rule on the Grafana dashboard: PromQL with thresholds as in ``AlertRule.expr``, a Grafana unit."""

    title: str
    description: str
    expr: str
    legend: str = ""
    unit: str = "percentunit"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCase:
    """A test of a rule by ``promtool test rules``, at one sample a minute.

    ``series`` are promtool's notation of values by series. The alert must not fire at ``silent_at`` and must fire at
    ``fires_at`` (minutes), with ``labels`` beside the rule's own and with the text ``description``.
    """

    name: str
    series: Mapping[str, str]
    silent_at: tuple[int, ...] = ()
    fires_at: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One alert rule.

    ``name`` is that of its module or entry point, in settings and, where ``engine`` is given, the ``kind`` of its
    alerts. ``alert`` is its name in Prometheus, where it fires once ``expr`` has held for ``for_seconds``. Without
    ``expr`` (rules of the engine only) it fires while the engine's alert is active.

    ``expr``, ``summary``, ``description`` and the panel name thresholds in angle brackets: ``<share>`` becomes 0.01,
    ``<share %>`` 1 %. ``thresholds`` holds their values; settings override them. ``description`` may use Prometheus'
    templates. ``runbook`` is a path in the project or a URL; empty: the page in docs/runbooks that is called like
    ``alert``, in lower case.
    """

    name: str
    alert: str
    group: str
    severity: Literal["info", "warning", "critical"]
    summary: str
    description: str
    expr: str = ""
    for_seconds: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    runbook: str = ""
    panel: Panel | None = None
    engine: EngineRule | None = None
    cases: tuple[RuleCase, ...] = ()

    @property
    def promql(self) -> str:
        """The expression with its thresholds."""
        if self.expr:
            return self.filled(self.expr)
        return f'max by (model, pool) (tokentide_alert_active{{kind="{self.name}"}}) == 1'

    @property
    def runbook_path(self) -> str:
        """Where the runbook is: a path in the project or a URL."""
        return self.runbook or f"docs/runbooks/{self.alert.lower()}.md"

    def filled(self, text: str) -> str:
        """Return ``text`` with thresholds in place of their names.

        Raises:
            KeyError: the rule has no threshold of a name.
        """

        def value(match: re.Match[str]) -> str:
            number = self.thresholds[match[1]]
            return f"{100 * number:.6g} %" if match[2] else f"{number:.15g}"

        return _THRESHOLD.sub(value, text)

    def threshold_names(self) -> set[str]:
        """Return the names of the thresholds that the texts of the rule use."""
        texts = [self.expr, self.summary, self.description]
        if self.panel is not None:
            texts += [self.panel.title, self.panel.description, self.panel.expr]
        return {name for text in texts for name, _ in _THRESHOLD.findall(text)}


def prometheus_duration(seconds: float) -> str:
    """Return a duration as Prometheus writes it.

    >>> prometheus_duration(600), prometheus_duration(5400), prometheus_duration(0)
    ('10m', '1h30m', '0s')
    """
    left = math.floor(seconds)
    text = ""
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            text += f"{count}{unit}"
    return text or "0s"
