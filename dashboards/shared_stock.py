"""The row of the board "SLO and cost" that says how the stock that the pools share is split."""

from __future__ import annotations

from builder import LEGEND, Add, gauge, query, row, series, state_timeline

__all__ = ["shared_stock"]

_LINE = "{{stock}} ({{gpu}}, {{capacity_type}})"


def _newest(metric: str, by: str = "") -> str:
    """One series for each value of the labels ``by``, bounded to the newest scrapes as pools' gauges are."""
    return f"max by ({by}) (last_over_time({metric}[$__rate_interval]))"


def shared_stock(add: Add) -> None:
    """Who has which GPUs, how much of the stock is used, who goes short, and what it costs; empty without a stock."""
    add(row("Shared stock"), 24, 1)
    lines = "stock, gpu, capacity_type"
    used, there = _newest("tokentide_fleet_stock_used_gpus", lines), _newest("tokentide_fleet_stock_gpus", lines)
    add(
        series(
            "Stock in use",
            "GPUs of each line of the stock that the split uses, divided by the GPUs in that line.",
            [query(f"{used} / ({there} > 0)", _LINE)],
            "percentunit",
            stepped=True,
        ),
        8,
        8,
    )
    add(
        series(
            "Replicas by pool and stock",
            "Replicas that each pool gets from each line of the stock, with the GPUs per replica (tensor parallelism).",
            [
                gauge(
                    "tokentide_fleet_split_replicas",
                    f"{{{{stock}}}} x {{{{tensor_parallel}}}}: {LEGEND}",
                    by="stock, tensor_parallel",
                )
            ],
            stepped=True,
        ),
        8,
        8,
    )
    add(
        series(
            "Short of stock or budget, the ten shortest",
            "Share of the capacity of a pool's recommended replicas that stock and budget do not cover.",
            [gauge("tokentide_fleet_split_short_ratio", most="topk 10")],
            "percentunit",
            stepped=True,
        ),
        8,
        8,
    )
    add(
        series(
            "Cost of the split and its budget",
            "US dollars per hour: the split, the smallest budget at which no pool is short, and the budget.",
            [
                query(_newest("tokentide_fleet_split_dollars_per_hour"), "split"),
                query(_newest("tokentide_fleet_split_smallest_budget_dollars_per_hour"), "smallest sufficient budget"),
                query(_newest("tokentide_fleet_budget_dollars_per_hour"), "budget"),
            ],
            "currencyUSD",
            stepped=True,
        ),
        8,
        8,
    )
    add(
        series(
            "Replicas changed by the newest split",
            "Replicas that the newest split starts or stops, and the age of that split.",
            [
                query(_newest("tokentide_fleet_split_changed_replicas"), "replicas"),
                query(
                    f"{_newest('tokentide_clock_timestamp_seconds')} - "
                    f"{_newest('tokentide_fleet_split_timestamp_seconds')}",
                    "age of the split",
                ),
            ],
            overrides=[
                {
                    "matcher": {"id": "byName", "options": "age of the split"},
                    "properties": [{"id": "unit", "value": "s"}, {"id": "custom.axisPlacement", "value": "right"}],
                }
            ],
            stepped=True,
        ),
        8,
        8,
    )
    add(
        series(
            "Age of the stock's prices",
            "Age of each price. If it is older than 90 days, the split may not be the cheapest.",
            [query(_newest("tokentide_fleet_stock_price_age_seconds", "stock"), "{{stock}}")],
            "s",
        ),
        8,
        8,
    )
    add(
        state_timeline(
            "No split was found",
            "1 when the search found no split for the newest recommendations; /v1/fleet says why.",
            [query(f"1 - {_newest('tokentide_fleet_split_found')}", "no split")],
        ),
        24,
        4,
    )
