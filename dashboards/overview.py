"""The dashboard "Tokentide: capacity overview": which pools need a look, and all pools in one table."""

from __future__ import annotations

from typing import Any

from builder import POOL, Add, Layout, dashboard, gauge, query, row, series, stat, state_timeline, table
from spikes import spikes

__all__ = ["overview"]

#: 0 where the controller is scraped, nothing where it is not: an absent Tokentide must not look like a calm one.
_ZERO = "0 * max(tokentide_pools)"
_POOL_BOARD = (
    "/d/tokentide-pool?var-datasource=${datasource}&var-model=${__data.fields.model}"
    "&var-pool=${__data.fields.pool}&${__url_time_range}"
)


def _newest(metric: str, matchers: str = "") -> str:
    return f"max by (model, pool) ({metric}{{{POOL}{',' if matchers else ''}{matchers}}})"


def _now(add: Add) -> None:
    """What needs a look right now."""
    attainment = _newest("tokentide_slo_attainment_ratio", 'span="1h"')
    add(row("Now"), 24, 1)
    add(
        stat(
            "Targets down",
            "Processes of Tokentide that Prometheus cannot scrape. While the controller is one of them, all other "
            "numbers here have no data.",
            'count(up{job=~"tokentide.*"} == 0) or 0 * count(up{job=~"tokentide.*"})',
            bad=1,
        ),
        3,
        4,
    )
    add(
        stat(
            "Pools short of replicas",
            "Pools with more than 10 % (the tolerance of the HPA) fewer replicas than recommended, or with fewer than "
            "the lower end of the recommendation.",
            f"count({_newest('tokentide_recommended_replicas')} > 1.1 * {_newest('tokentide_current_replicas')} or "
            f"{_newest('tokentide_recommended_replicas_lower')} > {_newest('tokentide_current_replicas')}) or {_ZERO}",
            warn=1,
        ),
        3,
        4,
    )
    add(
        stat(
            "Pools without valid advice",
            "Configured pools whose recommendation has expired or was never made: autoscalers keep the replicas that "
            "run.",
            f"count(max by (model, pool) (tokentide_pool_info{{{POOL}}}) unless on (model, pool) "
            f"tokentide_recommended_replicas) or {_ZERO}",
            bad=1,
        ),
        3,
        4,
    )
    add(
        stat(
            "Pools below their objective",
            "Pools in which too few requests of the last hour met the latency objective.",
            f"count({attainment} < {_newest('tokentide_slo_objective_ratio')}) or {_ZERO}",
            warn=1,
        ),
        3,
        4,
    )
    add(
        stat(
            "Spikes",
            "Spikes that are observed or forecast now, without those for which the replicas are enough.",
            f'sum(max by (model, pool, kind) (tokentide_spike_active{{{POOL},kind!~"foreseen|rise"}})) or {_ZERO}',
            warn=1,
        ),
        3,
        4,
    )
    add(
        stat(
            "Watermark lag",
            "The pipeline's clock minus the event time up to which windows are closed.",
            "max(tokentide_watermark_lag_seconds)",
            "s",
            240,
            600,
        ),
        3,
        4,
    )
    add(
        stat(
            "Events",
            "Events accepted per second.",
            "sum(rate(tokentide_events_accepted_total[$__rate_interval]))",
            "eps",
        ),
        3,
        4,
    )
    add(
        stat(
            "Rejected",
            "Share of records that became dead letters.",
            "sum(rate(tokentide_events_rejected_total[$__rate_interval])) / "
            f"sum(rate(tokentide_events_consumed_total[$__rate_interval])) or {_ZERO}",
            "percentunit",
            0.001,
            0.01,
        ),
        3,
        4,
    )


def _pools(add: Add) -> None:
    """All pools, and the alerts that fire."""
    columns = [
        ("demand", "tokentide_demand_requests_per_second", "", "reqps"),
        ("p90 in 15 min", "tokentide_forecast_requests_per_second", 'horizon_seconds="900",band="p90"', "reqps"),
        ("capacity", "tokentide_capacity_requests_per_second", "", "reqps"),
        ("current", "tokentide_current_replicas", "", "none"),
        ("advised", "tokentide_recommended_replicas", "", "none"),
        ("lower", "tokentide_recommended_replicas_lower", "", "none"),
        ("upper", "tokentide_recommended_replicas_upper", "", "none"),
        ("accelerators", "tokentide_recommended_accelerators", "", "none"),
        ("within SLO, 1 h", "tokentide_slo_attainment_ratio", 'span="1h"', "percentunit"),
        ("confidence", "tokentide_recommendation_confidence_ratio", "", "percentunit"),
    ]
    found = [(heading, query(_newest(metric, matchers)), unit) for heading, metric, matchers, unit in columns]
    states = query(f"max by (model, pool, state) (tokentide_advice_state{{{POOL}}}) == 1")
    add(
        table(
            "Pools",
            "Demand, forecast, recommendation and its state, of every pool. Click on a pool to open its board.",
            [*found, ("", states, "none")],
            [],
            {"pool": ("Open the board of the pool", _POOL_BOARD)},
        ),
        24,
        10,
    )
    add(
        table(
            "Firing alerts",
            "Tokentide's alert rules that fire in Prometheus.",
            [
                (
                    "",
                    query(
                        "max by (severity, alertname, model, pool) "
                        '(ALERTS{alertstate="firing",alertname=~"Tokentide.*"})'
                    ),
                    "none",
                )
            ],
            [],
            {"pool": ("Open the board of the pool", _POOL_BOARD)},
        ),
        12,
        8,
    )
    add(
        state_timeline(
            "Alerts of the engine",
            "Times at which an alert that the controller itself raises was active.",
            [gauge("tokentide_alert_active", "{{kind}} {{model}} / {{pool}}", by="kind")],
        ),
        12,
        8,
    )


def _capacity(add: Add) -> None:
    """Which pools run out, and what all pools need together."""
    add(row("Capacity"), 24, 1)
    capacity = f"{_newest('tokentide_capacity_requests_per_second')} > 0"
    add(
        series(
            "Demand over capacity, the ten highest",
            "Demand of the newest window divided by the rate that the current replicas can serve within the SLO.",
            [
                query(
                    f"topk(10, {_newest('tokentide_demand_requests_per_second')} / ({capacity}))",
                    "{{model}} / {{pool}}",
                )
            ],
            "percentunit",
        ),
        12,
        8,
    )
    forecast = _newest("tokentide_forecast_requests_per_second", 'horizon_seconds="900",band="p90"')
    add(
        series(
            "Forecast in 15 minutes over capacity, the ten highest",
            "The 90 % quantile of demand 15 minutes ahead divided by the rate that the current replicas can serve.",
            [query(f"topk(10, {forecast} / ({capacity}))", "{{model}} / {{pool}}")],
            "percentunit",
        ),
        12,
        8,
    )
    add(
        series(
            "Replicas of all pools",
            "Current and recommended replicas, summed over all pools.",
            [
                query(f"sum({_newest('tokentide_current_replicas')})", "current"),
                query(f"sum({_newest('tokentide_recommended_replicas')})", "advised"),
                query(f"sum({_newest('tokentide_recommended_replicas_lower')})", "lower"),
                query(f"sum({_newest('tokentide_recommended_replicas_upper')})", "upper"),
            ],
            stepped=True,
        ),
        12,
        8,
    )
    add(
        series(
            "Accelerators advised",
            "Accelerators of the recommended replicas, by type.",
            [
                query(
                    "sum by (accelerator) (max by (model, pool, accelerator) "
                    f"(tokentide_recommended_accelerators{{{POOL}}}))",
                    "{{accelerator}}",
                )
            ],
            stacked=True,
            stepped=True,
        ),
        12,
        8,
    )


def overview() -> dict[str, Any]:
    """Return the dashboard.

    Raises:
        DashboardError: an expression names a metric or label that the catalogue does not have.
    """
    layout = Layout()
    for section in (_now, _pools, _capacity):
        section(layout.add)
    return dashboard(
        "tokentide-overview",
        "Tokentide: capacity overview",
        "Which pools need attention, and what all of them need together. Generated by dashboards/generate.py.",
        layout,
        [spikes(POOL)],
    )
