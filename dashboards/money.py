"""The row of the board "SLO and cost" that says what the pools cost."""

from __future__ import annotations

from builder import LEGEND, Add, gauge, row, series

__all__ = ["money"]


def money(add: Add) -> None:
    """Cost per hour and per token, the utilisation that decides it, and what the advice saves."""
    add(row("Money"), 24, 1)
    add(
        series(
            "Cost per hour",
            "US dollars per hour of the replicas that run now, and of those that are recommended.",
            [gauge("tokentide_cost_dollars_per_hour", f"{{{{replicas}}}} {LEGEND}", by="replicas")],
            "currencyUSD",
        ),
        12,
        8,
    )
    add(
        series(
            "Cost per million tokens",
            "The cost of the last hour divided by its input, its output or all its tokens. The three must not be "
            "added.",
            [
                gauge(
                    "tokentide_cost_dollars_per_million_tokens",
                    f"{{{{tokens}}}} {LEGEND}",
                    by="tokens",
                    matchers='replicas="ran"',
                )
            ],
            "currencyUSD",
        ),
        12,
        8,
    )
    add(
        series(
            "Utilisation and break-even",
            "Requests of the last hour over those that the replicas carry, and the utilisation above which they cost "
            "less than the API.",
            [
                gauge("tokentide_capacity_utilisation_ratio", f"{{{{replicas}}}} {LEGEND}", by="replicas"),
                gauge(
                    "tokentide_api_break_even_utilisation_ratio",
                    f"break-even {{{{tier}}}} {LEGEND}",
                    by="tier",
                    matchers='replicas="ran"',
                ),
            ],
            "percentunit",
        ),
        12,
        8,
    )
    add(
        series(
            "Savings of 30 days",
            "How much less the recommendations cost than keeping their peak all the time, and than the replicas that "
            "ran.",
            [gauge("tokentide_savings_dollars", f"{{{{against}}}} {LEGEND}", by="against")],
            "currencyUSD",
        ),
        12,
        8,
    )
    add(
        series(
            "Cost per request",
            "The cost of the last hour divided by the number of its requests that were not rejected.",
            [gauge("tokentide_cost_dollars_per_request", f"{{{{replicas}}}} {LEGEND}", by="replicas")],
            "currencyUSD",
        ),
        12,
        8,
    )
    add(
        series(
            "Age of prices",
            "Age of the prices of the GPU and of the API. If they are older than 90 days, this whole row misleads.",
            [gauge("tokentide_price_age_seconds", f"{{{{price}}}} {LEGEND}", by="price")],
            "s",
        ),
        12,
        8,
    )
