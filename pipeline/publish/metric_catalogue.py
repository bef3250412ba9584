"""Every metric that Tokentide exposes: one table.

The exporter, the dashboards, the alert rules, ``docs/metrics.md`` and the tests are made from it or checked against it.
Names follow the Prometheus naming practices (https://prometheus.io/docs/practices/naming/): prefix, base unit, plural;
``band`` rather than ``quantile``, because ``promtool check metrics`` keeps ``quantile`` for summaries.
"""

from __future__ import annotations

from pipeline.publish.metric import BANDS, POOL, TOKEN_TYPES, Metric, counters, gauges
from pipeline.publish.pipeline_metrics import PIPELINE_METRICS

__all__ = ["BANDS", "CATALOGUE", "METRICS", "TOKEN_TYPES", "Metric", "markdown"]

_SPAN = (*POOL, "span")
_STOCK = ("stock", "gpu", "capacity_type")
_HORIZON = (*POOL, "horizon_seconds", "band")

CATALOGUE: tuple[Metric, ...] = (
    *gauges(
        "Demand (newest closed window, event time)",
        ("demand_requests_per_second", POOL, "Requests that arrived per second, of every status."),
        ("demand_tokens_per_second", (*POOL, "token_type"), "Tokens per second of the requests that arrived."),
        ("demand_kv_tokens", POOL, "Mean number of tokens held in the KV cache."),
        ("demand_concurrency", POOL, "Mean number of requests in flight, queued ones included."),
        (
            "demand_completeness_ratio",
            POOL,
            "Estimated share of the window's requests whose events had arrived when it closed.",
        ),
        ("window_end_timestamp_seconds", POOL, "End of the newest closed window, epoch seconds of event time."),
        ("queued_requests", POOL, "Requests that waited for a replica, from the newest report of the fleet."),
        ("running_requests", POOL, "Requests that were being served, from the newest report of the fleet."),
        ("reporting_servers", POOL, "Number of servers named by the requests of the window."),
        (
            "observed_latency_seconds",
            (*POOL, "latency", "band"),
            "Observed latency of the newest closed window (ttft, tpot, queue or e2e) at p50, p95 or p99.",
        ),
        (
            "service_requests_per_second",
            (*POOL, "outcome"),
            "Requests per second by outcome: met (within the objective: goodput), ttft_missed, tpot_missed, "
            "both_missed, unknown, failed, timeout.",
        ),
        (
            "telemetry_gap",
            POOL,
            "1 when telemetry of a configured pool is missing, so that its counts say nothing about demand.",
        ),
        (
            "tenant_demand_ratio",
            (*POOL, "tenant"),
            "Share of the pool's requests by tenant: tenants with a forecast of their own (forecast.tenant_series), "
            "and all others together (*).",
        ),
        (
            "dimension_values",
            (*POOL, "dimension"),
            "Number of distinct values of a configured dimension in the newest closed window.",
        ),
    ),
    *counters(
        "Demand totals (closed windows since this process started)",
        ("requests", (*POOL, "status"), "Requests in closed windows by status: ok, rejected, other."),
        ("tokens", (*POOL, "token_type"), "Tokens in closed windows."),
        (
            "dimension_values_unnamed",
            (*POOL, "dimension"),
            "Distinct values in closed windows that had too few requests to be listed by name; they are counted "
            "together (*).",
        ),
    ),
    *gauges(
        "Forecast (absent once older than the pool's time to live)",
        ("forecast_requests_per_second", _HORIZON, "Forecast of the request rate at the horizon."),
        ("forecast_tokens_per_second", (*_HORIZON, "token_type"), "Forecast of the token rate at the horizon."),
        ("forecast_kv_tokens", _HORIZON, "Forecast of the mean number of tokens held in the KV cache."),
        ("forecast_issued_timestamp_seconds", POOL, "Time at which the newest forecast was made, epoch seconds."),
        (
            "forecast_error_ratio",
            (*POOL, "signal", "horizon_seconds"),
            "Weighted absolute percentage error of the median forecasts whose time has passed.",
        ),
        (
            "forecast_coverage_ratio",
            (*POOL, "signal", "horizon_seconds", "interval"),
            "Share of measured values inside the forecast interval, for forecasts whose time has passed. p05_p95: "
            "between the two; p95: at most p95; p95_busy: the same in the top 10 % of demand; p95_after_spike: the "
            "same in the hour after a spike.",
        ),
        (
            "forecast_regret_ratio",
            (*POOL, "signal", "horizon_seconds"),
            "Loss of the combined forecast divided by that of its best expert, minus 1.",
        ),
    ),
    *gauges(
        "Capacity and recommendation (absent once the recommendation has expired)",
        ("capacity_requests_per_second", POOL, "Request rate that the current replicas can serve within the SLO."),
        (
            "capacity_tokens_per_second",
            (*POOL, "token_type"),
            "Token rate of the current replicas at that request rate, for uncached_input and output.",
        ),
        ("capacity_kv_tokens", POOL, "Number of tokens that the KV caches of the current replicas can hold."),
        (
            "recommended_capacity_requests_per_second",
            POOL,
            "Request rate that the recommended replicas can serve within the SLO.",
        ),
        ("current_replicas", POOL, "Replicas in the newest report of the fleet."),
        ("recommended_replicas", POOL, "Replicas that should run once the lead time has passed."),
        ("recommended_replicas_lower", POOL, "Lower end of the interval of the recommendation."),
        ("recommended_replicas_upper", POOL, "Upper end of the interval of the recommendation."),
        ("recommended_replicas_min", POOL, "Configured minimum number of replicas."),
        ("recommended_replicas_max", POOL, "Configured maximum number of replicas."),
        (
            "recommended_accelerators",
            (*POOL, "accelerator"),
            "Number of accelerators that the recommended replicas use.",
        ),
        ("recommendation_timestamp_seconds", POOL, "Time at which the recommendation was made, epoch seconds."),
        (
            "recommendation_expiry_timestamp_seconds",
            POOL,
            "Time at which the recommendation expires, epoch seconds. After it, keep the replicas that run.",
        ),
        ("recommendation_horizon_seconds", POOL, "Lead time for which the recommendation was sized."),
        ("recommendation_generation", POOL, "Number that grows whenever the recommendation changes."),
        ("recommendation_confidence_ratio", POOL, "Confidence in the recommendation, 0 to 1."),
        (
            "recommendation_state",
            (*POOL, "state"),
            "1 for the state of the recommendation: fresh, hold, cold_start, degraded.",
        ),
        ("recommendation_reason", (*POOL, "reason"), "1 for the reason of the recommendation."),
        (
            "recommendation_constraint",
            (*POOL, "constraint"),
            "1 for the resource that limits capacity and so decides the number of replicas.",
        ),
        ("recommendation_clamped", (*POOL, "by"), "1 for each limit that changed the recommendation."),
        (
            "recommendation_input_problem",
            (*POOL, "check"),
            "1 for each check of the inputs that holds the recommendation.",
        ),
        (
            "lead_time_seconds",
            POOL,
            "Lead time used for planning: the measured one, or the configured one until it is measured.",
        ),
        ("start_up_p90_seconds", POOL, "90 % quantile of the observed start-up times of replicas."),
        (
            "predicted_latency_seconds",
            (*POOL, "latency"),
            "Predicted ttft or tpot at the percentile of the objective, at the planned load.",
        ),
        ("slo_objective_ratio", POOL, "Share of requests that should meet the latency objective."),
        (
            "slo_attainment_ratio",
            (*POOL, "span"),
            "Share of requests that met the latency objective over 5m, 30m, 1h, 6h, 1d, 3d or 30d. Failures and "
            "timeouts count as missed.",
        ),
        (
            "slo_burn_rate_ratio",
            (*POOL, "span"),
            "Share of requests that missed the objective divided by the share that may miss it. At 1 the error budget "
            "lasts exactly for its period.",
        ),
        ("slo_infeasible", POOL, "1 when no number of replicas can meet the latency objective."),
        (
            "pool_info",
            (*POOL, "accelerator", "profile"),
            "1 for every configured pool, with or without a recommendation.",
        ),
        (
            "autoscaler_replicas",
            POOL,
            "Replicas for an autoscaler: the recommendation while it is fresh; otherwise the greater of the last "
            "recommendation and the replicas that run. Still present after the recommendation has expired.",
        ),
        (
            "advice_state",
            (*POOL, "state"),
            "1 for the state of the newest recommendation: fresh, held, degraded, expired. Still present after it has "
            "expired.",
        ),
    ),
    *counters(
        "Capacity and recommendation (absent once the recommendation has expired)",
        (
            "recommendation_changes",
            (*POOL, "direction", "reason"),
            "Changes of the recommendation since the process started.",
        ),
        (
            "recommendation_revisions",
            POOL,
            "Recommendations that reports of the fleet raised between two windows, since the process started.",
        ),
    ),
    *gauges(
        "Past recommendations (scored once their time has come)",
        (
            "advice_scored",
            _SPAN,
            "Number of recommendations whose time came within the span (1d or 30d), so that they could be scored.",
        ),
        (
            "advice_too_low_ratio",
            _SPAN,
            "Share of the scored recommendations with fewer replicas than the demand at their time needed.",
        ),
        (
            "advice_too_high_ratio",
            _SPAN,
            "Share of the scored recommendations with more replicas than the demand at their time needed.",
        ),
        (
            "advice_interval_coverage_ratio",
            _SPAN,
            "Share of the scored recommendations whose interval, lower to upper, contained the need; held ones are not "
            "counted.",
        ),
        (
            "advice_regret_replica_seconds",
            (*_SPAN, "side"),
            "Replica-seconds recommended below (side: under) and above (over) what the demand needed.",
        ),
        ("advice_unserved_requests", _SPAN, "Requests beyond the capacity of the recommended replicas."),
        (
            "advice_followed_ratio",
            _SPAN,
            "Share of recommendations to scale up whose replicas ran, or were starting, when their time came.",
        ),
        (
            "advice_lead_time_met_ratio",
            _SPAN,
            "Share of the followed recommendations whose replicas all served requests when their time came.",
        ),
    ),
    *gauges(
        "Cost (US dollars, at the prices of the settings)",
        (
            "cost_dollars_per_hour",
            (*POOL, "replicas"),
            "Cost per hour of the replicas that run now, or of those that are recommended.",
        ),
        (
            "cost_dollars_per_million_tokens",
            (*POOL, "replicas", "tokens"),
            "Cost of the last hour per million input, output or all tokens, for the replicas that ran or were "
            "recommended.",
        ),
        ("cost_dollars_per_request", (*POOL, "replicas"), "Cost of the last hour per request that was not rejected."),
        (
            "capacity_utilisation_ratio",
            (*POOL, "replicas"),
            "Requests of the last hour divided by those that the replicas can serve within the SLO.",
        ),
        (
            "api_break_even_utilisation_ratio",
            (*POOL, "replicas", "api", "tier"),
            "Utilisation above which own replicas cost less than the API (tier standard or batch). Above 1: they never "
            "do.",
        ),
        (
            "savings_dollars",
            (*POOL, "against"),
            "How much less the recommendations of the last 30 days cost than keeping their peak all the time, or than "
            "what ran.",
        ),
        ("price_age_seconds", (*POOL, "price"), "Age of the price of the GPU or of the API. Old prices mislead."),
    ),
    *gauges(
        "Shared stock (fleet.stock; from the newest split of the recommended replicas)",
        ("fleet_stock_gpus", _STOCK, "GPUs in one line of the stock that the pools share."),
        ("fleet_stock_used_gpus", _STOCK, "GPUs of the line that the split uses."),
        ("fleet_stock_price_age_seconds", ("stock",), "Age of the line's price at the newest split."),
        (
            "fleet_split_replicas",
            (*POOL, "stock", "tensor_parallel"),
            "Replicas that the split gives to a pool from one line of the stock.",
        ),
        (
            "fleet_split_short_ratio",
            POOL,
            "Share of the capacity of a pool's recommended replicas that stock and budget do not cover. 0: all of it "
            "is covered.",
        ),
        ("fleet_split_dollars_per_hour", (), "Cost per hour of the split, including reserved stock that is not used."),
        (
            "fleet_split_smallest_budget_dollars_per_hour",
            (),
            "Smallest budget per hour at which no pool would be short.",
        ),
        ("fleet_budget_dollars_per_hour", (), "Maximum cost per hour of the split."),
        (
            "fleet_split_changed_replicas",
            (),
            "Replicas that the newest split starts or stops, compared with the split before it.",
        ),
        (
            "fleet_split_found",
            (),
            "1 when the newest recommendations could be split; 0 when the search ended without a result.",
        ),
        ("fleet_split_timestamp_seconds", (), "End of the step whose recommendations were split last, epoch seconds."),
    ),
    *gauges(
        "Spikes",
        (
            "spike_active",
            (*POOL, "kind"),
            "1 while a spike of this kind is active. observed: seen, and not foreseen. foreseen: seen, after a "
            "warning, and the replicas are enough. forecast: expected, and the replicas may be too few. rise: "
            "expected, and P(demand > capacity) is negligible.",
        ),
        (
            "spike_ratio",
            (*POOL, "kind"),
            "Demand divided by the recent level (observed, foreseen) or by capacity (forecast, rise; by the present "
            "level if the capacity is unknown).",
        ),
    ),
    *counters(
        "Spikes",
        (
            "spikes",
            (*POOL, "kind"),
            "Spikes since the process started: observed (including foreseen) or forecast (including rise).",
        ),
    ),
    *gauges(
        "Alerts of the engine",
        ("alert_active", (*POOL, "kind"), "1 while an alert of this kind is active; absent otherwise."),
    ),
    *counters(
        "Alerts of the engine",
        ("alerts", (*POOL, "kind"), "Alerts raised since the process started."),
        ("alert_rule_errors", ("rule",), "Failures of alert rules in the engine since the process started."),
    ),
    *PIPELINE_METRICS,
)

#: The catalogue by full name.
METRICS: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}


def markdown() -> str:
    """Return ``docs/metrics.md``: the catalogue as tables."""
    lines = [
        "# Metrics",
        "",
        "Generated by `python -m pipeline.publish.metric_catalogue > docs/metrics.md`.",
        "",
        "Served at `/metrics`. A series that is unknown, stale or expired is absent, never 0. Times are event time;",
        "in a replay compare them with `tokentide_clock_timestamp_seconds`, not with `time()`.",
        f"Bands: {', '.join(f'`{band}`' for band in BANDS)}. Token types: "
        + ", ".join(f"`{kind}`" for kind in TOKEN_TYPES)
        + " (disjoint).",
    ]
    for group in dict.fromkeys(metric.group for metric in CATALOGUE):
        lines += ["", f"## {group}", "", "| name | type | labels | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} |"
            for m in CATALOGUE
            if m.group == group
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
