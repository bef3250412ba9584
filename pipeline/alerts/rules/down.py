"""Tokentide cannot be scraped."""

from __future__ import annotations

from pipeline.alerts.rule import AlertRule

RULE = AlertRule(
    name="down",
    alert="TokentideDown",
    group="pipeline",
    severity="critical",
    summary="Tokentide cannot be scraped.",
    description="Prometheus cannot scrape the controller.",
    expr='up{job="tokentide"} == 0 or absent(up{job="tokentide"})',
    for_seconds=120,
)
