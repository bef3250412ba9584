"""The decision rules, by name of their kind: those of this distribution, and those of others.

Other distributions register sequences of rules as entry points ``tokentide.decision_rules``. The first rule of all is
the one that is trusted before anything was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.engine.decisions.forecast_quantile import ForecastQuantile
from pipeline.engine.decisions.observed import Observed
from pipeline.engine.decisions.recent_peak import RecentPeak
from pipeline.engine.decisions.rule import DecisionRule
from pipeline.engine.decisions.seasonal_peak import SeasonalPeak
from pipeline.engine.decisions.trend import Trend
from pipeline.errors import ConfigError
from pipeline.extensions import load_extension

__all__ = ["GROUP", "KINDS", "decision_rules"]

#: Entry point group in which other distributions register sequences of rules.
GROUP = "tokentide.decision_rules"

#: Rules of each kind. The first one of all is what is trusted before anything was learned: of the peak of the next four
#: to eight minutes over the last one, minutes of at least 60 requests, the 90 % quantile is 1.16 to 1.19 on the Azure
#: 2024 conversation trace, 1.26 to 1.40 on that of 2023 and 1.29 to 1.37 on World Cup 1998.
KINDS: Mapping[str, tuple[DecisionRule, ...]] = {
    "observed": (Observed((1.3, 1.0, 1.1, 1.2, 1.5, 2.0)),),
    "forecast": (ForecastQuantile((0.5, 0.75, 0.9, 0.95, 0.99)),),
    "recent_peak": (RecentPeak(10, (1.0, 1.2)), RecentPeak(60, (1.0, 1.2))),
    "season": (SeasonalPeak((1.0, 1.2)),),
    "trend": (Trend((1.0, 1.2)),),
}


def decision_rules(kinds: Sequence[str]) -> tuple[DecisionRule, ...]:
    """Return the rules of some kinds and of ``observed``, whose first one stands in where no other one knows.

    Raises:
        ConfigError: there is no such kind, its distribution fails to import, or two variants have one name.
    """
    chosen = dict.fromkeys((*(kind for kind in KINDS if kind in ("observed", *kinds)), *kinds))
    rules = tuple(rule for kind in chosen for rule in load_extension(GROUP, kind, KINDS, "decision rule"))
    names = [name for rule in rules for name in rule.names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two decision rules are called {twice!r}")
    return rules
