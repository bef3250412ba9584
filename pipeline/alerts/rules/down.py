"""Tokentide cannot be scraped."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="down",
    alert="TokentideDown",
    group="pipeline",
    severity="critical",
    summary="Prometheus cannot scrape Tokentide.",
    description=(
        "Prometheus cannot scrape the controller; autoscalers keep the replicas that run. Check the process, the "
        "network and the bearer token. A restart is safe: the controller continues where it stopped."
    ),
    expr='up{job="tokentide"} == 0 or absent(up{job="tokentide"})',
    for_seconds=120,
)
