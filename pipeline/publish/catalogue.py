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
        ("telemetry_gap", _POOL, "1 when telemetry is missing: the counts say nothing about demand."),
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
        ("slo_infeasible", _POOL, "1 when no number of replicas can hold the latency objective."),
        ("pool_info", (*_POOL, "accelerator", "profile"), "1 for every configured pool, with or without advice."),
    ),
    *_counters(
        "Capacity and recommendation (left out once the advice has expired)",
        ("recommendation_changes", (*_POOL, "direction", "reason"), "Changes of the advice since the process started."),
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
    *_counters(
        "Pipeline",
        ("events_consumed", (), "Records read from the request topic: accepted, duplicate and rejected."),
        ("events_accepted", (), "Events counted in windows."),
        ("events_rejected", ("reason",), "Records that became dead letters."),
        ("events_duplicate", (), "Events seen before and not counted again."),
        ("events_late", (), "Events that arrived after their window had closed."),
        ("events_lost", (), "Offsets that the broker no longer had when they were read."),
        ("events_unknown_model", (), "Events of a model and pool without settings."),
        ("deltas", ("result",), "Window deltas read by the controller: applied or dropped (already covered)."),
        ("delta_gaps", (), "Deltas refused because offsets before them are missing."),
        ("steps", (), "Steps of the forecast and advice engine since the process started."),
        ("step_errors", (), "Errors within those steps."),
    ),
    *_gauges(
        "Pipeline",
        ("ready", (), "1 when the pipeline is ready: partitions assigned, state restored, store writable."),
        ("clock_timestamp_seconds", (), "The pipeline's clock (simulated in a replay), epoch seconds."),
        ("watermark_timestamp_seconds", (), "Event time up to which windows are closed, epoch seconds."),
        ("watermark_lag_seconds", (), "The pipeline's clock minus the watermark."),
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
        "Generated from `pipeline/publish/catalogue.py` by `python -m pipeline.publish.catalogue > docs/metrics.md`.",
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
