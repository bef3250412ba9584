"""Every metric that Tokentide exposes: one table.

The exporter, the dashboards, the alert rules, ``docs/metrics.md`` and the tests are made from it or checked against it.
Names follow the Prometheus naming practices (https://prometheus.io/docs/practices/naming/): prefix, base unit, plural;
``band`` rather than ``quantile``, because ``promtool check metrics`` keeps ``quantile`` for summaries.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BANDS", "CATALOGUE", "METRICS", "TOKEN_TYPES", "Metric", "markdown"]

#: Forecast bands that are exposed, and their quantile levels. More bands cost 20 series per pool each.
BANDS = {"p10": 0.1, "p50": 0.5, "p90": 0.9}

#: Disjoint kinds of tokens, so that a sum over the label is the total.
TOKEN_TYPES = ("uncached_input", "cached_input", "output")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family: full name (counters end in ``_total``), ``gauge`` or ``counter``, its labels and its help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    group: str


_POOL = ("model", "pool")
_SPAN = (*_POOL, "span")
_STOCK = ("stock", "gpu", "capacity_type")
_HORIZON = (*_POOL, "horizon_seconds", "band")


def _gauges(group: str, *rows: tuple[str, tuple[str, ...], str]) -> tuple[Metric, ...]:
    return tuple(Metric(f"tokentide_{name}", "gauge", labels, text, group) for name, labels, text in rows)


def _counters(group: str, *rows: tuple[str, tuple[str, ...], str]) -> tuple[Metric, ...]:
    return tuple(Metric(f"tokentide_{name}_total", "counter", labels, text, group) for name, labels, text in rows)


CATALOGUE: tuple[Metric, ...] = (
    *_gauges(
        "Demand (newest closed window, event time)",
        ("demand_requests_per_second", _POOL, "Requests arriving per second, of every status."),
        ("demand_tokens_per_second", (*_POOL, "token_type"), "Tokens per second of the requests that arrived."),
        ("demand_kv_tokens", _POOL, "Mean tokens resident in the KV cache."),
        ("demand_concurrency", _POOL, "Mean requests in flight, queueing included."),
        ("demand_completeness_ratio", _POOL, "Estimated share of the window's requests that had been reported."),
        ("window_end_timestamp_seconds", _POOL, "End of the newest closed window, epoch seconds of event time."),
        ("queued_requests", _POOL, "Requests that waited for a replica by the newest report of the fleet."),
        ("running_requests", _POOL, "Requests that were being served by the newest report of the fleet."),
        ("reporting_servers", _POOL, "Servers that the requests of the window name."),
        (
            "observed_latency_seconds",
            (*_POOL, "latency", "band"),
            "Observed ttft, tpot, queue or e2e latency of the newest closed window at p50, p95 or p99.",
        ),
        (
            "service_requests_per_second",
            (*_POOL, "outcome"),
            "Requests by outcome: met (within the objective: goodput), ttft_missed, tpot_missed, both_missed, unknown, "
            "failed, timeout.",
        ),
        (
            "telemetry_gap",
            _POOL,
            "1 when telemetry of a configured pool is missing: the counts say nothing about demand.",
        ),
        (
            "tenant_demand_ratio",
            (*_POOL, "tenant"),
            "Share of the pool's requests, of the tenants that are forecast apart (forecast.tenant_series) and of all "
            "others (*).",
        ),
        (
            "dimension_values",
            (*_POOL, "dimension"),
            "Distinct values of a configured dimension in the newest closed window.",
        ),
    ),
    *_counters(
        "Demand totals (closed windows since this process started)",
        ("requests", (*_POOL, "status"), "Requests in closed windows by status: ok, rejected, other."),
        ("tokens", (*_POOL, "token_type"), "Tokens in closed windows."),
        (
            "dimension_values_unnamed",
            (*_POOL, "dimension"),
            "Distinct values in closed windows that were too light to be named and are counted as one (*).",
        ),
    ),
    *_gauges(
        "Forecast (left out once older than the pool's time to live)",
        ("forecast_requests_per_second", _HORIZON, "Forecast of the request rate at the horizon."),
        ("forecast_tokens_per_second", (*_HORIZON, "token_type"), "Forecast of the token rate at the horizon."),
        ("forecast_kv_tokens", _HORIZON, "Forecast of the mean tokens resident in the KV cache."),
        ("forecast_issued_timestamp_seconds", _POOL, "When the newest forecast was issued, epoch seconds."),
        (
            "forecast_error_ratio",
            (*_POOL, "signal", "horizon_seconds"),
            "Weighted absolute percentage error of matured medians.",
        ),
        (
            "forecast_coverage_ratio",
            (*_POOL, "signal", "horizon_seconds", "interval"),
            "Share of matured actuals inside the interval: p05_p95, or at most p95; "
            "p95_busy in the top decile of demand, p95_after_spike in the hour after a spike.",
        ),
        (
            "forecast_regret_ratio",
            (*_POOL, "signal", "horizon_seconds"),
            "Loss of the expert pool over that of its best expert, less one.",
        ),
    ),
    *_gauges(
        "Capacity and recommendation (left out once the advice has expired)",
        ("capacity_requests_per_second", _POOL, "Request rate that the current replicas can serve within the SLO."),
        (
            "capacity_tokens_per_second",
            (*_POOL, "token_type"),
            "Token rate of the current replicas at that request rate: uncached_input and output.",
        ),
        ("capacity_kv_tokens", _POOL, "Tokens that the KV caches of the current replicas hold."),
        ("recommended_capacity_requests_per_second", _POOL, "Request rate that the recommended replicas can serve."),
        ("current_replicas", _POOL, "Replicas that the fleet reported last."),
        ("recommended_replicas", _POOL, "Replicas that should run at the lead time."),
        ("recommended_replicas_lower", _POOL, "Lower end of the recommendation's interval."),
        ("recommended_replicas_upper", _POOL, "Upper end of the recommendation's interval."),
        ("recommended_replicas_min", _POOL, "Configured least number of replicas."),
        ("recommended_replicas_max", _POOL, "Configured greatest number of replicas."),
        ("recommended_accelerators", (*_POOL, "accelerator"), "Accelerators of the recommended replicas."),
        ("recommendation_timestamp_seconds", _POOL, "When the advice was issued, epoch seconds."),
        ("recommendation_expiry_timestamp_seconds", _POOL, "When the advice expires, epoch seconds; hold after it."),
        ("recommendation_horizon_seconds", _POOL, "Lead time that the advice was sized for."),
        ("recommendation_generation", _POOL, "Grows whenever the advice changes."),
        ("recommendation_confidence_ratio", _POOL, "Confidence of the advice, 0 to 1."),
        (
            "recommendation_state",
            (*_POOL, "state"),
            "1 for the state of the advice: fresh, hold, cold_start, degraded.",
        ),
        ("recommendation_reason", (*_POOL, "reason"), "1 for the reason of the advice."),
        ("recommendation_constraint", (*_POOL, "constraint"), "1 for what binds: the resource that decides."),
        ("recommendation_clamped", (*_POOL, "by"), "1 for every limit that changed the advice."),
        ("recommendation_input_problem", (*_POOL, "check"), "1 for every check of the inputs that holds the advice."),
        ("lead_time_seconds", _POOL, "Lead time that is planned with: measured, or configured until it is."),
        ("start_up_p90_seconds", _POOL, "0.9 quantile of the observed start-ups of replicas."),
        (
            "predicted_latency_seconds",
            (*_POOL, "latency"),
            "Predicted ttft or tpot at the percentile of the objective, at the load that is planned for.",
        ),
        ("slo_objective_ratio", _POOL, "Share of requests that should meet the latency objective."),
        (
            "slo_attainment_ratio",
            (*_POOL, "span"),
            "Share of requests within the latency objective over 5m, 30m, 1h, 6h, 1d, 3d or 30d; failed ones and "
            "timeouts are not.",
        ),
        (
            "slo_burn_rate_ratio",
            (*_POOL, "span"),
            "Share of requests beyond the objective over the share that may be: 1 uses up the error budget in time.",
        ),
        ("slo_infeasible", _POOL, "1 when no number of replicas can hold the latency objective."),
        ("pool_info", (*_POOL, "accelerator", "profile"), "1 for every configured pool, with or without advice."),
        (
            "autoscaler_replicas",
            _POOL,
            "Replicas for an autoscaler: the advice while it is fresh, else the greater of the last advice and the "
            "replicas that run; kept after the advice has expired.",
        ),
        (
            "advice_state",
            (*_POOL, "state"),
            "1 for the state of the newest advice: fresh, held, degraded, expired; kept after it has expired.",
        ),
    ),
    *_counters(
        "Capacity and recommendation (left out once the advice has expired)",
        ("recommendation_changes", (*_POOL, "direction", "reason"), "Changes of the advice since the process started."),
        ("recommendation_revisions", _POOL, "Advice that reports of the fleet raised between two windows, so far."),
    ),
    *_gauges(
        "Past advice (scored once its time has come)",
        ("advice_scored", _SPAN, "Pieces of advice whose time has come in the span: 1d or 30d."),
        ("advice_too_low_ratio", _SPAN, "Share of them that were fewer replicas than the demand that came needed."),
        ("advice_too_high_ratio", _SPAN, "Share of them that were more replicas than the demand that came needed."),
        ("advice_interval_coverage_ratio", _SPAN, "Share of those not held with the need between lower and upper."),
        (
            "advice_regret_replica_seconds",
            (*_SPAN, "side"),
            "Replica-seconds advised under and over what the demand that came needed.",
        ),
        ("advice_unserved_requests", _SPAN, "Requests beyond what the advised replicas carry."),
        ("advice_followed_ratio", _SPAN, "Share of advice to go up whose replicas ran or started when its time came."),
        (
            "advice_lead_time_met_ratio",
            _SPAN,
            "Share of advice followed whose replicas all served by then.",
        ),
    ),
    *_gauges(
        "Money (US dollars, at the prices of the settings)",
        ("cost_dollars_per_hour", (*_POOL, "replicas"), "Cost per hour of the replicas that run now, or are advised."),
        (
            "cost_dollars_per_million_tokens",
            (*_POOL, "replicas", "tokens"),
            "Whole cost of the last hour per million input, output or all tokens, by the replicas that ran or were "
            "advised.",
        ),
        ("cost_dollars_per_request", (*_POOL, "replicas"), "Cost of the last hour per request that was not rejected."),
        (
            "capacity_utilisation_ratio",
            (*_POOL, "replicas"),
            "Requests of the last hour over those that the replicas carry within the SLO.",
        ),
        (
            "api_break_even_utilisation_ratio",
            (*_POOL, "replicas", "api", "tier"),
            "Utilisation above which own replicas cost less than the API asks, standard or batch; above 1: never.",
        ),
        (
            "savings_dollars",
            (*_POOL, "against"),
            "What the advice of the last 30 days cost less than its peak held all the time, or than what ran.",
        ),
        ("price_age_seconds", (*_POOL, "price"), "Age of the price of the GPU or of the API; old ones mislead."),
    ),
    *_gauges(
        "Shared stock (fleet.stock; of the newest split of the advised replicas)",
        ("fleet_stock_gpus", _STOCK, "GPUs of a line of the stock that pools share."),
        ("fleet_stock_used_gpus", _STOCK, "GPUs of the line that the split uses."),
        ("fleet_stock_price_age_seconds", ("stock",), "Age of the line's price when the stock was split last."),
        (
            "fleet_split_replicas",
            (*_POOL, "stock", "tensor_parallel"),
            "Replicas that the split gives to a pool from a line of the stock.",
        ),
        (
            "fleet_split_short_ratio",
            _POOL,
            "Share of what a pool's advised replicas carry that stock and budget leave uncarried; 0: nothing is short.",
        ),
        ("fleet_split_dollars_per_hour", (), "Cost per hour of the split, reserved stock that is not used included."),
        ("fleet_split_smallest_budget_dollars_per_hour", (), "The smallest budget at which no pool would go short."),
        ("fleet_budget_dollars_per_hour", (), "The most that the split may cost per hour."),
        ("fleet_split_changed_replicas", (), "Replicas started or stopped by the newest split against that before."),
        ("fleet_split_found", (), "1 when the newest advice could be split; 0: the search ended without an answer."),
        ("fleet_split_timestamp_seconds", (), "End of the step whose advice was split last, epoch seconds."),
    ),
    *_gauges(
        "Spikes",
        (
            "spike_active",
            (*_POOL, "kind"),
            "1 while a spike is observed, foreseen (observed, warned of and held), forecast, or a rise (forecast and "
            "held: P(demand > capacity) is negligible).",
        ),
        (
            "spike_ratio",
            (*_POOL, "kind"),
            "Demand over the recent level (observed, foreseen) or over capacity (forecast, rise; over the level of now "
            "where none is known).",
        ),
    ),
    *_counters(
        "Spikes",
        (
            "spikes",
            (*_POOL, "kind"),
            "Spike episodes since the process started: observed (foreseen ones, too) or forecast (rises, too).",
        ),
    ),
    *_gauges(
        "Alerts of the engine",
        ("alert_active", (*_POOL, "kind"), "1 while an alert of the kind is active; absent otherwise."),
    ),
    *_counters(
        "Alerts of the engine",
        ("alerts", (*_POOL, "kind"), "Alert episodes since the process started."),
        ("alert_rule_errors", ("rule",), "Failures of alert rules in the engine since the process started."),
    ),
    *_counters(
        "Pipeline",
        ("events_consumed", (), "Records read from the topics of events: with events, rejected and ignored."),
        ("events_accepted", (), "Events counted in windows."),
        ("events_rejected", ("reason",), "Records that became dead letters."),
        ("events_duplicate", (), "Events seen before (id, attempt, arrival and size) and not counted again."),
        ("events_ignored", (), "Records of a known format that hold no request."),
        ("event_parts_ignored", (), "Parts of records, such as spans, that are no requests."),
        ("event_parts_rejected", ("reason",), "Refused parts of records that gave other events."),
        ("event_ids_reused", (), "Events whose id another event of the same batch has, with another arrival or size."),
        ("unknown_fields", ("field",), "Values of event fields that were unusable, and token counts that are unknown."),
        ("records_by_codec", ("codec",), "Records read by a codec other than the native one."),
        ("events_late", (), "Events that arrived after their window had closed."),
        ("events_lost", (), "Offsets that the broker no longer had when they were read."),
        ("events_unknown_model", (), "Events of a model and pool without settings."),
        ("deltas", ("result",), "Window deltas read by the controller: applied or dropped (already covered)."),
        ("delta_gaps", (), "Deltas refused because offsets before them are missing."),
        ("exogenous_rows", ("outcome",), "External forecasts and values of signals read: taken, or why refused."),
        ("sink_dropped", (), "Results that sinks gave up since the process started."),
        ("fleet_reports_rejected", (), "Reports of replicas that were refused since the process started."),
        ("steps", (), "Steps of the forecast and advice engine since the process started."),
    ),
    *_gauges(
        "Pipeline",
        (
            "bridge_requests",
            (*_POOL, "result"),
            "Requests that a bridge told of since the store began: counted, or ignored because the pool has events "
            "(those that events replace move from the one to the other).",
        ),
        (
            "unknown_model_requests_ratio",
            (),
            "Share of recent requests (half-life 10 minutes of event time) of models and pools without settings.",
        ),
        (
            "unknown_model_similar_pool_ratio",
            (*_POOL, "similar_model", "similar_pool"),
            "The same of the ten heaviest, each with the configured pool that it looks like (empty: none).",
        ),
        ("ready", (), "1 when the pipeline is ready: partitions assigned, state restored, store writable."),
        ("clock_timestamp_seconds", (), "The pipeline's clock (simulated in a replay), epoch seconds."),
        ("watermark_timestamp_seconds", (), "Event time up to which windows are closed, epoch seconds."),
        ("watermark_lag_seconds", (), "The pipeline's clock minus the watermark."),
        (
            "server_clock_offset_seconds",
            ("server",),
            "Seconds that a server's clock seems to be ahead (negative: behind, or its events are delivered late), of "
            "servers off by more than 5 s; the 32 furthest.",
        ),
        ("consumer_lag_records", ("topic", "partition"), "Records not yet read."),
        ("store_write_duration_seconds", (), "Duration of the newest store transaction."),
        ("stage_last_success_timestamp_seconds", ("stage",), "When a stage last succeeded, epoch seconds."),
        ("pools", (), "Pools known from settings or events."),
        ("build_info", ("version",), "1, with the version."),
        ("config_info", ("hash",), "1, with the hash of the settings that shape advice."),
    ),
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
