"""An alert rule of your own: requests of a pool are refused.

[alerts.rules.requests_refused]
thresholds.share = 0.05
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.alerts.episodes import Condition
from pipeline.alerts.rule import AlertRule, EngineRule, PoolFacts

__all__ = ["RULE"]


def _condition(facts: PoolFacts, thresholds: Mapping[str, float]) -> Condition | None:
    """Compare the refused requests of the newest window with all of them."""
    window = facts.window
    if window.gap or window.requests < thresholds["least_requests"]:
        return None
    share = window.rejected / window.requests
    if share <= thresholds["share"]:
        return None
    text = f"{window.model}/{window.pool}: {share:.0%} of {window.requests} requests were refused"
    return Condition(float(window.start), "critical" if share > 0.5 else "warning", share, None, text)


RULE = AlertRule(
    name="requests_refused",
    alert="RequestsRefused",
    group="demand",
    severity="warning",
    summary="More than <share %> of the requests of a pool are refused.",
    description="Requests to {{ $labels.model }}/{{ $labels.pool }} are refused; the alert on the board says how many.",
    thresholds={"share": 0.1, "least_requests": 20},
    runbook="https://runbooks.example/requests-refused",
    engine=EngineRule(
        condition=_condition, title="Requests refused", one="pool refuses requests", many="pools refuse requests"
    ),
)
