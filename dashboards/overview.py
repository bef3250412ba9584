"""The dashboard "Tokentide overview", row by row."""

from __future__ import annotations

from typing import Any

from builder import (
    DATASOURCE,
    LEGEND,
    POOL,
    Add,
    Layout,
    band,
    dashboard,
    query,
    row,
    series,
    stat,
    state_timeline,
    table,
)
from trust import health, quality

__all__ = ["overview"]

#: Horizons of the fan, shortest first; each must exceed the scrape interval.
FAN_HORIZONS_SECONDS = (300, 900, 1800, 3600)


def future(metric: str, band_name: str, matchers: str = "") -> str:
    """Return an expression that draws a forecast at the time that it is about, up to an hour ahead of now.

    A gauge with ``horizon_seconds="3600"`` scraped at T describes T + 1 h, so with ``offset 1h`` it can be evaluated at
    T + 1 h. The horizons are chained, shortest first; ``last_over_time`` bounds the five-minute staleness tail. Right
    of now each point is the newest forecast that reaches so far; left of now it is what was said five minutes before.
    ``max`` rather than ``sum``: a pool has one controller; two series of it are the same one before and after a move.
    """
    parts = [
        f'last_over_time({metric}{{{POOL},horizon_seconds="{h}",band="{band_name}"{matchers}}}[2m] offset {h // 60}m)'
        for h in FAN_HORIZONS_SECONDS
    ]
    return f"max by (model, pool) ({' or ignoring(horizon_seconds) '.join(parts)})"


def fan(title: str, description: str, metric: str, actual: str, unit: str, matchers: str, extra: list[Any]) -> Any:
    """Return the chart of one signal: what was, what is expected, what can be served; one per pool."""
    colours = {"demand": "text", "forecast p50": "blue", "capacity now": "gray", "recommended capacity": "green"}
    overrides = band("forecast p90", "forecast p10", "blue")
    for name, colour in colours.items():
        properties: list[dict[str, Any]] = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
        if name == "forecast p50":
            properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    targets = [
        query(f"max by (model, pool) ({actual})", "demand"),
        query(future(metric, "p10", matchers), "forecast p10"),
        query(future(metric, "p50", matchers), "forecast p50"),
        query(future(metric, "p90", matchers), "forecast p90"),
        *extra,
    ]
    return series(title, description, targets, unit, overrides, repeat="pool", repeatDirection="h", maxPerRow=3)


def _now(add: Add) -> None:
    """What needs a look right now, and the table of all pools."""
    add(row("Now"), 24, 1)
    add(
        stat(
            "Pools short of replicas",
            "Pools whose recommended replicas exceed the current ones.",
            f"count(max by (model, pool) (tokentide_recommended_replicas{{{POOL}}}) > "
            f"max by (model, pool) (tokentide_current_replicas{{{POOL}}})) or vector(0)",
            warn=1,
        ),
        4,
        4,
    )
    add(
        stat(
            "Spikes",
            "Spikes observed or forecast right now, but for those that the replicas hold.",
            f'sum(max by (model, pool, kind) (tokentide_spike_active{{{POOL},kind!~"foreseen|rise"}}))',
            warn=1,
        ),
        4,
        4,
    )
    add(
        stat(
            "Pools without valid advice",
            "Configured pools whose advice has expired or was never given: consumers hold.",
            f"count(max by (model, pool) (tokentide_pool_info{{{POOL}}}) unless on (model, pool) "
            "tokentide_recommended_replicas) or vector(0)",
            bad=1,
        ),
        4,
        4,
    )
    add(
        stat(
            "Watermark lag",
            "Clock minus the event time up to which windows are closed.",
            "max(tokentide_watermark_lag_seconds)",
            "s",
            240,
            600,
        ),
        4,
        4,
    )
    add(
        stat(
            "Events",
            "Events accepted per second.",
            "sum(rate(tokentide_events_accepted_total[5m]))",
            "eps",
        ),
        4,
        4,
    )
    add(
        stat(
            "Rejected",
            "Share of records that became dead letters.",
            "sum(rate(tokentide_events_rejected_total[5m])) / sum(rate(tokentide_events_consumed_total[5m]))"
            " or vector(0)",
            "percentunit",
            0.001,
            0.01,
        ),
        4,
        4,
    )
    add(
        table(
            "Pools",
            "Demand, forecast and advice of every pool.",
            [
                ("demand", query(f"max by (model, pool) (tokentide_demand_requests_per_second{{{POOL}}})"), "reqps"),
                (
                    "p90 in 15 min",
                    query(
                        "max by (model, pool) (tokentide_forecast_requests_per_second"
                        f'{{{POOL},horizon_seconds="900",band="p90"}})'
                    ),
                    "reqps",
                ),
                (
                    "capacity",
                    query(f"max by (model, pool) (tokentide_capacity_requests_per_second{{{POOL}}})"),
                    "reqps",
                ),
                ("current", query(f"max by (model, pool) (tokentide_current_replicas{{{POOL}}})"), "none"),
                ("recommended", query(f"max by (model, pool) (tokentide_recommended_replicas{{{POOL}}})"), "none"),
                ("accelerators", query(f"max by (model, pool) (tokentide_recommended_accelerators{{{POOL}}})"), "none"),
                (
                    "confidence",
                    query(f"max by (model, pool) (tokentide_recommendation_confidence_ratio{{{POOL}}})"),
                    "percentunit",
                ),
            ],
            [],
        ),
        24,
        7,
    )


def _demand(add: Add) -> None:
    """The fans of every model and pool."""
    add(row("Demand and forecast: $model", repeat="model"), 24, 1)
    add(
        fan(
            "Requests: $pool",
            "Demand, its forecast up to an hour ahead, and what the replicas can serve. Left of now the forecast is "
            "what was said five minutes before. Demand and forecast lie at the time of publishing: both are "
            "the watermark lag to the right of event time.",
            "tokentide_forecast_requests_per_second",
            f"tokentide_demand_requests_per_second{{{POOL}}}",
            "reqps",
            "",
            [
                query(f"max by (model, pool) (tokentide_capacity_requests_per_second{{{POOL}}})", "capacity now"),
                query(
                    f"max by (model, pool) (tokentide_recommended_capacity_requests_per_second{{{POOL}}})",
                    "recommended capacity",
                ),
            ],
        ),
        24,
        10,
    )
    for title, kind in (("Prefill tokens: $pool", "uncached_input"), ("Decode tokens: $pool", "output")):
        add(
            fan(
                title,
                f"Tokens per second ({kind}) and their forecast up to an hour ahead.",
                "tokentide_forecast_tokens_per_second",
                f'tokentide_demand_tokens_per_second{{{POOL},token_type="{kind}"}}',
                "short",
                f',token_type="{kind}"',
                [
                    query(
                        f'max by (model, pool) (tokentide_capacity_tokens_per_second{{{POOL},token_type="{kind}"}})',
                        "capacity now",
                    )
                ],
            ),
            12,
            8,
        )


def _recommendation(add: Add) -> None:
    """What is advised, how it changed, and what limits it."""
    add(row("Recommendation"), 24, 1)
    add(
        series(
            "Replicas",
            "Recommended replicas and their interval against what runs.",
            [
                query(f"tokentide_current_replicas{{{POOL}}}", f"current {LEGEND}"),
                query(f"tokentide_recommended_replicas{{{POOL}}}", f"recommended {LEGEND}"),
                query(f"tokentide_recommended_replicas_lower{{{POOL}}}", f"lower {LEGEND}"),
                query(f"tokentide_recommended_replicas_upper{{{POOL}}}", f"upper {LEGEND}"),
            ],
        ),
        12,
        8,
    )
    add(
        series(
            "Accelerators",
            "Accelerators of the recommended replicas.",
            [query(f"sum by (accelerator) (tokentide_recommended_accelerators{{{POOL}}})", "{{accelerator}}")],
        ),
        6,
        8,
    )
    add(
        series(
            "Changes of the advice",
            "By direction and reason.",
            [
                query(
                    f"sum by (direction, reason) (increase(tokentide_recommendation_changes_total{{{POOL}}}[10m]))",
                    "{{direction}}: {{reason}}",
                )
            ],
        ),
        6,
        8,
    )
    add(
        state_timeline(
            "State of the advice",
            "Anything but fresh must never be used to scale down.",
            [query(f'tokentide_recommendation_state{{{POOL},state!="fresh"}}', f"{{{{state}}}} {LEGEND}")],
        ),
        12,
        7,
    )
    add(
        state_timeline(
            "Limits and SLO",
            "Which limit changed the advice, and pools whose latency objective no number of replicas can hold.",
            [
                query(f"tokentide_recommendation_clamped{{{POOL}}}", f"limited by {{{{by}}}} {LEGEND}"),
                query(f"tokentide_slo_infeasible{{{POOL}}}", f"SLO infeasible {LEGEND}"),
            ],
        ),
        12,
        7,
    )


def overview() -> dict[str, Any]:
    """Return the dashboard.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    layout = Layout()
    for section in (_now, _demand, _recommendation, quality, health):
        section(layout.add)
    spikes = {
        "name": "Spikes",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "orange",
        "expr": query(f"tokentide_spike_active{{{POOL}}} == 1")["expr"],
        "titleFormat": "spike {{kind}}",
        "textFormat": LEGEND,
        "step": "60s",
        "useValueForTime": False,
    }
    return dashboard(
        "tokentide-overview",
        "Tokentide overview",
        "Demand of LLM inference, its forecast, and the replicas it needs. Generated by dashboards/generate.py.",
        layout,
        [spikes],
    )
