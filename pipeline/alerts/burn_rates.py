"""PromQL of alerts on the speed at which the requests of a pool use up the error budget of its latency objective.

A burn rate of 1 uses the budget up exactly in the period of the objective. Alerts compare two spans, a long one so that
enough of the budget is gone to matter and a short one so that the alert ends with its cause (Google, "The Site
Reliability Workbook", 2018, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", table 5-8: 14.4 over 1 h and 5 m, 6 over
6 h and 30 m, 1 over 3 d and 6 h, which are 2 %, 5 % and 10 % of a budget of 30 days).

An objective of 90 % cannot burn faster than 10. The thresholds of loose objectives are therefore those at which
``most_share`` of all requests is beyond the objective, where that is less.
"""

from __future__ import annotations

__all__ = ["OBJECTIVE", "burning", "enough"]

#: The series that the expressions read besides the burn rates.
OBJECTIVE = "max by (model, pool) (tokentide_slo_objective_ratio)"


def burning(long: str, short: str, threshold: str) -> str:
    """Return the condition that the burn rate exceeds the threshold of a name over both spans; its value is the long
    span's.
    """
    limit = f"clamp_max(<most_share> / (1 - {OBJECTIVE}), <{threshold}>)"
    rates = (f'max by (model, pool) (tokentide_slo_burn_rate_ratio{{span="{span}"}})' for span in (long, short))
    return " and ".join(f"{rate} > {limit}" for rate in rates)


def enough(span: str) -> str:
    """Return the condition that ``least_requests`` came in a span, by which a burn rate can be judged."""
    return f"sum by (model, pool) (increase(tokentide_requests_total[{span}])) >= <least_requests>"
