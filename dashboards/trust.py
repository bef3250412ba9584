"""The rows of the overview that say how far it can be trusted: forecast quality and pipeline health."""

from __future__ import annotations

from builder import LEGEND, POOL, Add, query, row, series, state_timeline

__all__ = ["health", "quality"]


def quality(add: Add) -> None:
    """Spikes and gaps, and how good the forecasts were."""
    add(row("Spikes and forecast quality"), 24, 1)
    add(
        state_timeline(
            "Spikes and telemetry gaps",
            "While a spike is observed or forecast (foreseen, rise: the replicas hold it); while telemetry is missing.",
            [
                query(f"tokentide_spike_active{{{POOL}}}", f"{{{{kind}}}} {LEGEND}"),
                query(f"tokentide_telemetry_gap{{{POOL}}}", f"gap {LEGEND}"),
            ],
        ),
        12,
        7,
    )
    add(
        series(
            "Forecast error",
            "Weighted absolute percentage error of the matured medians of the request rate.",
            [
                query(
                    f'avg by (horizon_seconds) (tokentide_forecast_error_ratio{{{POOL},signal="requests_per_second"}})',
                    "{{horizon_seconds}} s ahead",
                )
            ],
            "percentunit",
        ),
        6,
        7,
    )
    add(
        series(
            "Forecast coverage",
            "Share of matured actuals inside the 5–95 % band (aim: 0.9) and at most p95 (aim: 0.95).",
            [
                query(
                    f"avg by (interval) (tokentide_forecast_coverage_ratio{{{POOL},"
                    'signal="requests_per_second",horizon_seconds="900"})',
                    "{{interval}}, 15 min ahead",
                )
            ],
            "percentunit",
        ),
        6,
        7,
    )


def health(add: Add) -> None:
    """Whether events get through."""
    add(row("Pipeline health"), 24, 1)
    add(
        series(
            "Records",
            "Consumed = accepted + duplicate + rejected.",
            [
                query("sum(rate(tokentide_events_consumed_total[5m]))", "consumed"),
                query("sum(rate(tokentide_events_accepted_total[5m]))", "accepted"),
                query("sum(rate(tokentide_events_duplicate_total[5m]))", "duplicate"),
                query("sum(rate(tokentide_events_late_total[5m]))", "late"),
            ],
            "eps",
        ),
        8,
        7,
    )
    add(
        series(
            "Dead letters",
            "Records refused, by reason.",
            [query("sum by (reason) (rate(tokentide_events_rejected_total[5m]))", "{{reason}}")],
            "eps",
        ),
        8,
        7,
    )
    add(
        series(
            "Losses",
            "Offsets that the broker no longer had, and ranges of deltas that are missing: both must stay 0.",
            [
                query("sum(increase(tokentide_events_lost_total[15m]))", "offsets lost"),
                query("sum(increase(tokentide_delta_gaps_total[15m]))", "delta gaps"),
            ],
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
            "Grows while a stage fails.",
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
            "Duration of the newest one.",
            [query("tokentide_store_write_duration_seconds", "{{instance}}")],
            "s",
        ),
        8,
        7,
    )
