"""What a pool's replicas cost over a span, for what they served and could have served.

All quantities are sums over one span. Cost per token counts what was served, not what could have been: at half its
capacity a pool pays twice per token (the "utilisation trap"). Each price per kind of token is the whole cost over the
tokens of that kind: they do not add up. Break-even against an API: the share of the capacity that must be in use for
the replicas to cost as much as the API would ask for the same requests, u* = u · own cost / API price.
"""

from __future__ import annotations

from dataclasses import dataclass

from sizing.economics import ApiPrice

__all__ = ["ApiComparison", "Savings", "Usage", "UsageCost", "compare_with_api", "savings", "usage_cost"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Replica-hours, the requests that they carry within the SLO, and what was served in the same time.

    ``requests`` leaves out rejected ones, ``input_tokens`` includes the cached ones.
    """

    hours: float
    replica_hours: float
    capacity_requests: float
    requests: float
    input_tokens: float
    cached_input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class UsageCost:
    """US dollars for a ``Usage``; None where nothing of the kind was served, or there was no capacity.

    ``utilisation`` is the requests over those that the replicas carry, ``utilisation_trap_ratio`` its reciprocal: how
    many times what a token costs at capacity is paid for it.
    """

    dollars: float
    dollars_per_hour: float
    utilisation: float | None
    utilisation_trap_ratio: float | None
    dollars_per_request: float | None
    dollars_per_million_input_tokens: float | None
    dollars_per_million_output_tokens: float | None
    dollars_per_million_tokens: float | None
    dollars_per_million_tokens_at_capacity: float | None


@dataclass(frozen=True, slots=True)
class ApiComparison:
    """What an API would ask for the same tokens, US dollars, and the utilisation at which the replicas cost as much.

    ``batch_*`` are of its batch interface; None: it has none, or nothing was served. ``own_to_api_ratio`` above 1: the
    API is cheaper for what was served. A break-even above 1: it is cheaper whatever the load.
    """

    dollars: float | None
    own_to_api_ratio: float | None
    break_even_utilisation: float | None
    batch_dollars: float | None
    batch_break_even_utilisation: float | None


@dataclass(frozen=True, slots=True)
class Savings:
    """US dollars that the advice costs less, negative where it costs more.

    ``against_static_peak``: than the most replicas that were advised in the span, held all the time. ``against_ran``:
    than the replicas that ran, over the hours in which they were reported.
    """

    against_static_peak: float | None
    against_ran: float | None


def _ratio(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


def usage_cost(usage: Usage, dollars_per_replica_hour: float) -> UsageCost:
    """Return what a usage costs.

    >>> two_hours = Usage(2.0, 4.0, 40_000.0, 10_000.0, 5e6, 1e6, 1e6)
    >>> cost = usage_cost(two_hours, 3.0)
    >>> cost.dollars, cost.utilisation, cost.utilisation_trap_ratio, cost.dollars_per_million_tokens
    (12.0, 0.25, 4.0, 2.0)
    >>> cost.dollars_per_million_tokens_at_capacity  # the same tokens at full capacity: four times as many
    0.5
    """
    dollars = usage.replica_hours * dollars_per_replica_hour
    utilisation = _ratio(usage.requests, usage.capacity_requests)
    tokens = _ratio(1e6 * dollars, usage.input_tokens + usage.output_tokens)
    return UsageCost(
        dollars=dollars,
        dollars_per_hour=_ratio(dollars, usage.hours) or 0.0,
        utilisation=utilisation,
        utilisation_trap_ratio=_ratio(usage.capacity_requests, usage.requests),
        dollars_per_request=_ratio(dollars, usage.requests),
        dollars_per_million_input_tokens=_ratio(1e6 * dollars, usage.input_tokens),
        dollars_per_million_output_tokens=_ratio(1e6 * dollars, usage.output_tokens),
        dollars_per_million_tokens=tokens,
        dollars_per_million_tokens_at_capacity=None if tokens is None or not utilisation else tokens * utilisation,
    )


def compare_with_api(usage: Usage, cost: UsageCost, api: ApiPrice) -> ApiComparison:
    """Return what an API would ask for the tokens of a usage, and the break-even utilisation.

    >>> usage = Usage(2.0, 4.0, 40_000.0, 10_000.0, 5e6, 1e6, 1e6)
    >>> there = compare_with_api(usage, usage_cost(usage, 3.0), ApiPrice(0.5, 1.5, 0.05))
    >>> there.dollars  # 4 · 0.5 + 1 · 0.05 + 1 · 1.5
    3.55
    >>> round(there.break_even_utilisation, 4)  # 0.25 · 12 / 3.55
    0.8451
    """
    asked = api.dollars_for(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    batch = api.batch_dollars_for(usage.input_tokens, usage.output_tokens)
    used = cost.utilisation
    return ApiComparison(
        dollars=asked,
        own_to_api_ratio=_ratio(cost.dollars, asked),
        break_even_utilisation=None if used is None else _ratio(used * cost.dollars, asked),
        batch_dollars=batch,
        batch_break_even_utilisation=None if used is None or batch is None else _ratio(used * cost.dollars, batch),
    )


def savings(
    advised: Usage,
    peak_replicas: int | None,
    ran: Usage | None,
    advised_while_ran_replica_hours: float,
    dollars_per_replica_hour: float,
) -> Savings:
    """Return what the advice saves; ``advised_while_ran_replica_hours``: in the hours of ``ran``.

    >>> week = Usage(168.0, 400.0, 1e6, 5e5, 1e9, 0.0, 1e8)
    >>> savings(week, 5, None, 0.0, 2.0)  # 5 · 168 − 400 replica-hours
    Savings(against_static_peak=880.0, against_ran=None)
    """
    peak = None if peak_replicas is None else peak_replicas * advised.hours - advised.replica_hours
    spent = None if ran is None else ran.replica_hours - advised_while_ran_replica_hours
    return Savings(
        against_static_peak=None if peak is None else peak * dollars_per_replica_hour,
        against_ran=None if spent is None else spent * dollars_per_replica_hour,
    )
