"""What a fleet costs, and when it beats an API.

Cost per token counts what the fleet serves, not what it could: a fleet at half its capacity pays twice per token (the
"utilisation trap"). Break-even: own GPUs cost price · GPUs per hour whatever they serve, an API costs its price per
token, so u* = own cost per hour / (API price of a full replica's tokens per hour).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sizing.catalog import Price
from sizing.errors import InvalidInput
from sizing.types import Workload

__all__ = [
    "HOURS_PER_MONTH",
    "ApiPrice",
    "FleetCost",
    "break_even_share",
    "break_even_utilisation",
    "capacity_cost",
    "fleet_cost",
]

#: Average hours of a month: 8,766 hours of a year of 365.25 days over 12.
HOURS_PER_MONTH = 730.5


@dataclass(frozen=True, slots=True)
class ApiPrice:
    """What a provider asks per million tokens, US dollars; ``cached_input`` defaults to ``input``.

    The prices of its batch interface, if it has one, are for work that may wait (commonly a day); there cached input
    costs as input. ``as_of`` is the day that the prices were read.
    """

    dollars_per_million_input_tokens: float
    dollars_per_million_output_tokens: float
    dollars_per_million_cached_input_tokens: float | None = None
    source: str = "given"
    as_of: str = "not dated"
    batch_dollars_per_million_input_tokens: float | None = None
    batch_dollars_per_million_output_tokens: float | None = None

    def dollars_for(self, input_tokens: float, cached_input_tokens: float, output_tokens: float) -> float:
        """Return the price of so many tokens; ``input_tokens`` includes the cached ones.

        >>> ApiPrice(0.5, 1.5, 0.05).dollars_for(1_000_000, 400_000, 200_000)  # 0.30 + 0.02 + 0.30
        0.62
        """
        cached = self.dollars_per_million_cached_input_tokens
        cached = self.dollars_per_million_input_tokens if cached is None else cached
        return (
            (input_tokens - cached_input_tokens) * self.dollars_per_million_input_tokens
            + cached_input_tokens * cached
            + output_tokens * self.dollars_per_million_output_tokens
        ) / 1e6

    def batch_dollars_for(self, input_tokens: float, output_tokens: float) -> float | None:
        """Return the price of so many tokens at the batch interface; None where it has none."""
        given, got = self.batch_dollars_per_million_input_tokens, self.batch_dollars_per_million_output_tokens
        if given is None or got is None:
            return None
        return (input_tokens * given + output_tokens * got) / 1e6

    def dollars_per_request(self, workload: Workload) -> float:
        """Return the price of one mean request."""
        hit = workload.input_tokens * workload.cached_share
        return self.dollars_for(workload.input_tokens, hit, workload.output_tokens)


@dataclass(frozen=True, slots=True)
class FleetCost:
    """What a fleet costs, US dollars. Per-token figures are None where nothing is served.

    ``utilisation`` is the demand over what the fleet carries within its SLO.
    """

    dollars_per_hour: float
    dollars_per_month: float
    utilisation: float | None
    dollars_per_million_output_tokens: float | None
    dollars_per_million_tokens: float | None
    dollars_per_million_output_tokens_at_capacity: float
    dollars_per_million_tokens_at_capacity: float


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InvalidInput(f"{name} must be positive, not {value!r}")
    return value


def fleet_cost(
    price: Price,
    replicas: int,
    gpus_per_replica: int,
    workload: Workload,
    capacity_requests_per_second: float,
    requests_per_second: float | None,
) -> FleetCost:
    """Return the cost of ``replicas`` that each carry ``capacity_requests_per_second`` and serve a rate together.

    What is beyond the fleet's capacity counts as not served. Without a rate the per-token figures are those at capacity
    alone.

    Raises:
        InvalidInput: no replicas, or a price or a capacity that is not positive.

    >>> cost = fleet_cost(Price(2.0, "given", "2026-11"), 2, 4, Workload(1000, 250), 5.0, 8.0)
    >>> cost.dollars_per_hour, cost.utilisation, round(cost.dollars_per_million_output_tokens, 3)
    (16.0, 0.8, 2.222)
    """
    _positive("the number of replicas", replicas)
    dollars_per_hour = _positive("the price", price.dollars_per_gpu_hour) * gpus_per_replica * replicas
    capacity = _positive("the capacity of a replica", capacity_requests_per_second) * replicas
    return capacity_cost(dollars_per_hour, capacity, workload, requests_per_second)


def capacity_cost(
    dollars_per_hour: float, capacity_requests_per_second: float, workload: Workload, requests_per_second: float | None
) -> FleetCost:
    """Return the cost of capacity of any kind that is paid by the hour; see ``fleet_cost``.

    Raises:
        InvalidInput: a cost or a capacity that is not positive.

    >>> cost = capacity_cost(16.0, 10.0, Workload(1000, 250), 8.0)
    >>> round(cost.dollars_per_million_output_tokens, 3)  # 16 / (8 · 250 · 3600) · 1e6
    2.222
    """
    _positive("the cost per hour", dollars_per_hour)
    capacity = _positive("the capacity", capacity_requests_per_second)
    served = None if requests_per_second is None else min(requests_per_second, capacity)

    def per_million(tokens_per_request: float, rate: float) -> float:
        return dollars_per_hour / (rate * max(tokens_per_request, 1e-9) * 3600) * 1e6

    output, every = workload.output_tokens, workload.input_tokens + workload.output_tokens
    return FleetCost(
        dollars_per_hour=dollars_per_hour,
        dollars_per_month=dollars_per_hour * HOURS_PER_MONTH,
        utilisation=None if served is None else served / capacity,
        dollars_per_million_output_tokens=per_million(output, served) if served else None,
        dollars_per_million_tokens=per_million(every, served) if served else None,
        dollars_per_million_output_tokens_at_capacity=per_million(output, capacity),
        dollars_per_million_tokens_at_capacity=per_million(every, capacity),
    )


def break_even_utilisation(
    price: Price, gpus_per_replica: int, workload: Workload, capacity_requests_per_second: float, api: ApiPrice
) -> float:
    """Return the share of a replica's capacity that must be used, on average over time, to be cheaper than an API.

    Above 1 the API is cheaper whatever the load.

    Raises:
        InvalidInput: a price or a capacity is not positive.

    >>> api = ApiPrice(0.5, 1.5)
    >>> round(break_even_utilisation(Price(2.0, "given", "2026-11"), 1, Workload(1000, 250), 1.0, api), 3)
    0.635
    """
    dollars_per_hour = _positive("the price", price.dollars_per_gpu_hour) * gpus_per_replica
    return break_even_share(dollars_per_hour, capacity_requests_per_second, workload, api)


def break_even_share(
    dollars_per_hour: float, capacity_requests_per_second: float, workload: Workload, api: ApiPrice
) -> float:
    """Return ``break_even_utilisation`` of capacity of any kind that is paid by the hour.

    Raises:
        InvalidInput: a cost, a price or a capacity is not positive.
    """
    for name in ("dollars_per_million_input_tokens", "dollars_per_million_output_tokens"):
        if not 0 <= getattr(api, name) < math.inf:
            raise InvalidInput(f"{name} cannot be {getattr(api, name)!r}")
    per_hour = api.dollars_per_request(workload) * _positive("the capacity", capacity_requests_per_second) * 3600
    return _positive("the cost per hour", dollars_per_hour) / _positive("the API price", per_hour)
