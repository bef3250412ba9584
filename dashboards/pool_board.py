"""The dashboard "Tokentide: pool": everything about one pool, with its forecasts drawn into the future."""

from __future__ import annotations

from typing import Any

from builder import (
    ONE_POOL,
    TOKEN_RATE,
    Add,
    Layout,
    band,
    dashboard,
    gauge,
    query,
    row,
    series,
    state_timeline,
)
from spikes import spikes

__all__ = ["pool_board"]

#: Horizons of the fan, shortest first; each must exceed the scrape interval.
FAN_HORIZONS_SECONDS = (300, 900, 1800, 3600)


def _gauge(metric: str, legend: str, by: str = "", matchers: str = "") -> dict[str, Any]:
    return gauge(metric, legend, pools=ONE_POOL, by=by, matchers=matchers)


def future(metric: str, band_name: str, matchers: str = "") -> str:
    """Return an expression that draws a forecast at the time that it is about, up to an hour ahead of now.

    A gauge with ``horizon_seconds="3600"`` scraped at T describes T + 1 h, so with ``offset 1h`` it can be evaluated at
    T + 1 h. The horizons are chained, shortest first; ``last_over_time`` bounds the five-minute staleness tail. Right
    of now each point is the newest forecast that reaches so far; left of now it is what was said five minutes before.
    """
    parts = [
        f'last_over_time({metric}{{{ONE_POOL},horizon_seconds="{h}",band="{band_name}"{matchers}}}[2m] '
        f"offset {h // 60}m)"
        for h in FAN_HORIZONS_SECONDS
    ]
    return f"max by (model, pool) ({' or ignoring(horizon_seconds) '.join(parts)})"


def _fan(
    title: str, description: str, metric: str, actual: dict[str, Any], unit: str, matchers: str, *more: Any
) -> Any:
    """Return the chart of one signal: what was, what is expected, what can be served."""
    colours = {"demand": "text", "forecast p50": "blue", "capacity now": "gray", "advised capacity": "green"}
    overrides = band("forecast p90", "forecast p10", "blue")
    for name, colour in colours.items():
        properties: list[dict[str, Any]] = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
        if name == "forecast p50":
            properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    targets = [
        actual,
        query(future(metric, "p10", matchers), "forecast p10"),
        query(future(metric, "p50", matchers), "forecast p50"),
        query(future(metric, "p90", matchers), "forecast p90"),
        *more,
    ]
    return series(title, description, targets, unit, overrides)


def _demand(add: Add) -> None:
    """Demand and its forecasts."""
    add(row("Demand and forecast of $model / $pool"), 24, 1)
    add(
        _fan(
            "Requests",
            "Demand, its forecast up to an hour ahead, and the capacity of the replicas. Left of now, the forecast is "
            "the one made five minutes before. Demand and forecast are drawn at the time of publishing, later than "
            "event time by the watermark lag. In a replay or demo at another speed than 1, the forecast is drawn too "
            "far ahead, because offsets are in wall time.",
            "tokentide_forecast_requests_per_second",
            _gauge("tokentide_demand_requests_per_second", "demand"),
            "reqps",
            "",
            _gauge("tokentide_capacity_requests_per_second", "capacity now"),
            _gauge("tokentide_recommended_capacity_requests_per_second", "advised capacity"),
        ),
        24,
        10,
    )
    for title, kind in (("Prefill tokens", "uncached_input"), ("Decode tokens", "output")):
        token_type = f'token_type="{kind}"'
        add(
            _fan(
                title,
                f"Tokens per second ({kind}) and their forecast up to an hour ahead.",
                "tokentide_forecast_tokens_per_second",
                _gauge("tokentide_demand_tokens_per_second", "demand", "", token_type),
                TOKEN_RATE,
                f",{token_type}",
                _gauge("tokentide_capacity_tokens_per_second", "capacity now", "", token_type),
            ),
            8,
            8,
        )
    add(
        _fan(
            "KV cache",
            "Mean number of tokens held in the KV caches, and its forecast up to an hour ahead.",
            "tokentide_forecast_kv_tokens",
            _gauge("tokentide_demand_kv_tokens", "demand"),
            "count:tok",
            "",
            _gauge("tokentide_capacity_kv_tokens", "capacity now"),
        ),
        8,
        8,
    )


def _replicas(add: Add) -> None:
    """Replicas, and what waits for them."""
    add(row("Replicas"), 24, 1)
    add(
        series(
            "Replicas",
            "Recommended replicas with their interval and the configured limits, and the replicas that run. The "
            "series for autoscalers is never below the replicas that run, unless the recommendation is fresh.",
            [
                _gauge("tokentide_current_replicas", "current"),
                _gauge("tokentide_recommended_replicas", "advised"),
                _gauge("tokentide_recommended_replicas_lower", "lower"),
                _gauge("tokentide_recommended_replicas_upper", "upper"),
                _gauge("tokentide_recommended_replicas_min", "min_replicas"),
                _gauge("tokentide_recommended_replicas_max", "max_replicas"),
                _gauge("tokentide_autoscaler_replicas", "for autoscalers"),
            ],
            overrides=band("upper", "lower", "green"),
            stepped=True,
        ),
        12,
        8,
    )
    add(
        series(
            "Requests in flight",
            "Mean number of requests in flight in the newest window, and the running and queued requests that the "
            "fleet reported.",
            [
                _gauge("tokentide_demand_concurrency", "in flight"),
                _gauge("tokentide_running_requests", "running"),
                _gauge("tokentide_queued_requests", "queued"),
            ],
        ),
        12,
        8,
    )


def _latency(add: Add) -> None:
    """Observed latencies beside predicted ones."""
    add(row("Latency"), 24, 1)
    for latency, title, predicted in (
        ("ttft", "Time to first token", True),
        ("tpot", "Time per output token", True),
        ("queue", "Queue", False),
        ("e2e", "End to end", False),
    ):
        matcher = f'latency="{latency}"'
        targets = [_gauge("tokentide_observed_latency_seconds", "observed {{band}}", "band", matcher)]
        if predicted:
            targets.append(_gauge("tokentide_predicted_latency_seconds", "predicted at the planned load", "", matcher))
        add(series(title, "Of the requests of the newest closed window.", targets, "s"), 6, 8)


def _causes(add: Add) -> None:
    """Spikes, tenants, and whether telemetry can be believed."""
    add(row("Spikes, tenants and telemetry"), 24, 1)
    add(
        state_timeline(
            "Spikes and telemetry gaps",
            "Times of observed or forecast spikes (foreseen, rise: the replicas are enough) and of missing telemetry.",
            [
                _gauge("tokentide_spike_active", "{{kind}}", "kind"),
                _gauge("tokentide_telemetry_gap", "telemetry gap"),
            ],
        ),
        12,
        7,
    )
    add(
        series(
            "Size of spikes",
            "Demand divided by its recent level (observed, foreseen) or by capacity (forecast, rise).",
            [_gauge("tokentide_spike_ratio", "{{kind}}", "kind")],
        ),
        6,
        7,
    )
    add(
        series(
            "Tenants",
            "Share of the requests by tenant; * means all others. Empty unless forecast.tenant_series is set.",
            [_gauge("tokentide_tenant_demand_ratio", "{{tenant}}", "tenant")],
            "percentunit",
            stacked=True,
        ),
        6,
        7,
    )
    add(
        series(
            "Requests by status",
            "Requests of closed windows per second.",
            [query(f"sum by (status) (rate(tokentide_requests_total{{{ONE_POOL}}}[$__rate_interval]))", "{{status}}")],
            "reqps",
            stacked=True,
        ),
        6,
        7,
    )
    add(
        series(
            "Tokens",
            "Tokens of closed windows per second.",
            [
                query(
                    f"sum by (token_type) (rate(tokentide_tokens_total{{{ONE_POOL}}}[$__rate_interval]))",
                    "{{token_type}}",
                )
            ],
            TOKEN_RATE,
            stacked=True,
        ),
        6,
        7,
    )
    add(
        series(
            "Completeness",
            "Estimated share of the newest window's requests whose events had arrived when it closed.",
            [_gauge("tokentide_demand_completeness_ratio", "completeness")],
            "percentunit",
        ),
        6,
        7,
    )
    add(
        series(
            "Servers and dimensions",
            "Number of servers named by the requests of the window, and of distinct values of configured dimensions.",
            [
                _gauge("tokentide_reporting_servers", "servers"),
                _gauge("tokentide_dimension_values", "{{dimension}}", "dimension"),
                query(
                    f"sum by (dimension) (rate(tokentide_dimension_values_unnamed_total{{{ONE_POOL}}}"
                    "[$__rate_interval]))",
                    "{{dimension}}: not named, per second",
                ),
            ],
        ),
        6,
        7,
    )


def pool_board() -> dict[str, Any]:
    """Return the dashboard.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    layout = Layout()
    for section in (_demand, _replicas, _latency, _causes):
        section(layout.add)
    return dashboard(
        "tokentide-pool",
        "Tokentide: pool",
        "Demand of one pool, its forecast, its replicas and its latencies. Generated by dashboards/generate.py.",
        layout,
        [spikes(ONE_POOL)],
        one_pool=True,
    )
