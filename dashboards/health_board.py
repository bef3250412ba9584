"""The dashboard "Tokentide: pipeline health and model quality": how far the numbers can be trusted."""

from __future__ import annotations

from typing import Any

from alert_files import losses
from builder import LEGEND, POOL, Add, Layout, dashboard, query, row, series, state_timeline, table
from spikes import spikes

__all__ = ["health_board"]


def _rate(metric: str, by: str = "") -> str:
    """Return the rate per second of a counter of the pipeline, added up over processes."""
    return f"sum {f'by ({by}) ' if by else ''}(rate({metric}[$__rate_interval]))"


def _quality(add: Add) -> None:
    """How good the forecasts were."""
    add(row("Forecast quality"), 24, 1)
    requests = 'signal="requests_per_second"'
    for title, description, expression, legend, unit in (
        (
            "Forecast error",
            "Weighted absolute percentage error of the median forecasts whose time has passed (request rate, mean over "
            "pools).",
            f"avg by (horizon_seconds) (tokentide_forecast_error_ratio{{{POOL},{requests}}})",
            "{{horizon_seconds}} s ahead",
            "percentunit",
        ),
        (
            "Forecast coverage",
            "Share of measured values between p05 and p95 (aim: 0.9) and at most p95 (aim: 0.95), forecast 15 min "
            "ahead.",
            f'avg by (interval) (tokentide_forecast_coverage_ratio{{{POOL},{requests},horizon_seconds="900"}})',
            "{{interval}}",
            "percentunit",
        ),
        (
            "Regret of the expert pool",
            "Loss of the combined forecast divided by that of its best expert, minus 1.",
            f"avg by (horizon_seconds) (tokentide_forecast_regret_ratio{{{POOL},{requests}}})",
            "{{horizon_seconds}} s ahead",
            "percentunit",
        ),
        (
            "Age of forecasts",
            "Age of the newest forecast of each pool; the ten oldest.",
            "topk(10, tokentide_clock_timestamp_seconds - on (instance) group_right () "
            f"tokentide_forecast_issued_timestamp_seconds{{{POOL}}})",
            LEGEND,
            "s",
        ),
        (
            "Age of the newest window",
            "Clock minus the end of the newest closed window of a pool; the ten oldest.",
            "topk(10, tokentide_clock_timestamp_seconds - on (instance) group_right () "
            f"tokentide_window_end_timestamp_seconds{{{POOL}}})",
            LEGEND,
            "s",
        ),
        (
            "Episodes",
            "Spikes and alerts that began, per hour.",
            f"3600 * sum by (kind) (rate(tokentide_spikes_total{{{POOL}}}[$__rate_interval])) or "
            f"3600 * sum by (kind) (rate(tokentide_alerts_total{{{POOL}}}[$__rate_interval]))",
            "{{kind}}",
            "short",
        ),
    ):
        add(series(title, description, [query(expression, legend)], unit), 8, 7)


def _events(add: Add) -> None:
    """Whether events get through."""
    add(row("Events"), 24, 1)
    add(
        series(
            "Records",
            "Consumed = with events + rejected + ignored. Duplicates count once; late events are not part of a "
            "closed window.",
            [
                query(_rate(f"tokentide_events_{name}_total"), name.replace("_", " "))
                for name in ("consumed", "accepted", "duplicate", "late", "ignored", "unknown_model")
            ]
            + [query(_rate("tokentide_event_ids_reused_total"), "ids reused")],
            "eps",
        ),
        8,
        7,
    )
    add(
        series(
            "Refused",
            "Records that became dead letters, and rejected parts of other records, by reason.",
            [
                query(_rate("tokentide_events_rejected_total", "reason"), "{{reason}}"),
                query(_rate("tokentide_event_parts_rejected_total", "reason"), "part: {{reason}}"),
            ],
            "eps",
        ),
        8,
        7,
    )
    add(
        series(
            "Lost",
            "Offsets that the broker had deleted, missing ranges of deltas, results that sinks could not deliver, "
            "rejected reports of replicas, failures of alert rules. All must stay 0.",
            [
                query(_rate("tokentide_events_lost_total"), "offsets lost"),
                query(_rate("tokentide_delta_gaps_total"), "delta gaps"),
                query(_rate("tokentide_sink_dropped_total"), "sink dropped"),
                query(_rate("tokentide_fleet_reports_rejected_total"), "fleet reports refused"),
                query(_rate("tokentide_alert_rule_errors_total", "rule"), "rule {{rule}}"),
            ],
            "cps",
        ),
        8,
        7,
    )
    add(
        series(
            "Unknown fields",
            "Unusable values in fields of events, and token counts that are unknown.",
            [query(_rate("tokentide_unknown_fields_total", "field"), "{{field}}")],
            "cps",
        ),
        8,
        7,
    )
    add(
        series(
            "Codecs",
            "Records read by a codec other than the native one, by codec, and parts that are not requests.",
            [
                query(_rate("tokentide_records_by_codec_total", "codec"), "{{codec}}"),
                query(_rate("tokentide_event_parts_ignored_total"), "parts ignored"),
            ],
            "eps",
        ),
        8,
        7,
    )
    add(
        series(
            "Other inputs",
            "Rows of external forecasts and signals by outcome, and requests that bridges reported.",
            [
                query(_rate("tokentide_exogenous_rows_total", "outcome"), "external: {{outcome}}"),
                query("sum by (result) (deriv(tokentide_bridge_requests[$__rate_interval]))", "bridge: {{result}}"),
            ],
            "cps",
        ),
        8,
        7,
    )
    add(
        series(
            "Models without settings",
            "Share of recent requests with a model and pool that have no settings, by the configured pool that they "
            "look like.",
            [
                query("max(tokentide_unknown_model_requests_ratio)", "all"),
                query(
                    "max by (model, pool, similar_model, similar_pool) (tokentide_unknown_model_similar_pool_ratio)",
                    f"{LEGEND} looks like {{{{similar_model}}}} / {{{{similar_pool}}}}",
                ),
            ],
            "percentunit",
        ),
        8,
        7,
    )


def _process(add: Add) -> None:
    """Whether the processes keep up."""
    add(row("Processes"), 24, 1)
    add(
        state_timeline(
            "Ready",
            "1 when partitions are assigned, the state is restored and the store is writable.",
            [query("max by (instance) (tokentide_ready)", "{{instance}}")],
        ),
        8,
        7,
    )
    add(
        series(
            "Watermark lag",
            "The pipeline's clock minus the event time up to which windows are closed.",
            [
                query("max by (instance) (tokentide_watermark_lag_seconds)", "{{instance}}"),
                query(
                    "max by (instance) (tokentide_clock_timestamp_seconds - on (instance) "
                    "tokentide_watermark_timestamp_seconds)",
                    "by the clock of the scrape {{instance}}",
                ),
            ],
            "s",
        ),
        8,
        7,
    )
    add(
        series(
            "Records behind",
            "Not yet read, by topic.",
            [query("sum by (topic) (tokentide_consumer_lag_records)", "{{topic}}")],
        ),
        8,
        7,
    )
    add(
        series(
            "Since the last success of a stage",
            "Time since the last success of each stage. It grows while a stage fails.",
            [
                query(
                    "tokentide_clock_timestamp_seconds - on (instance) group_right () "
                    "tokentide_stage_last_success_timestamp_seconds",
                    "{{stage}}",
                )
            ],
            "s",
        ),
        8,
        7,
    )
    add(
        series(
            "Store transaction",
            "Duration of the newest transaction of the store.",
            [query("tokentide_store_write_duration_seconds", "{{instance}}")],
            "s",
        ),
        8,
        7,
    )
    add(
        series(
            "Steps and deltas",
            "Steps of the engine and deltas read, per second.",
            [
                query(_rate("tokentide_steps_total"), "steps"),
                query(_rate("tokentide_deltas_total", "result"), "deltas {{result}}"),
            ],
            "cps",
        ),
        8,
        7,
    )
    add(
        table(
            "Versions",
            "Version, hash of the settings that affect recommendations, and number of known pools, of each process.",
            [
                ("pools", query("max by (instance) (tokentide_pools)"), "none"),
                ("", query("max by (instance, version) (tokentide_build_info)"), "none"),
                ("", query("max by (instance, hash) (tokentide_config_info)"), "none"),
            ],
            [],
        ),
        12,
        7,
    )
    add(
        series(
            "Pools configured",
            "By accelerator.",
            [
                query(
                    f"count by (accelerator) (max by (model, pool, accelerator) (tokentide_pool_info{{{POOL}}}))",
                    "{{accelerator}}",
                )
            ],
            stepped=True,
        ),
        12,
        7,
    )


def health_board() -> dict[str, Any]:
    """Return the dashboard.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    layout = Layout()
    for section in (_process, _events, losses, _quality):
        section(layout.add)
    return dashboard(
        "tokentide-health",
        "Tokentide: pipeline health and model quality",
        "Whether events get through, and how good forecasts are. Generated by dashboards/generate.py.",
        layout,
        [spikes(POOL)],
    )
