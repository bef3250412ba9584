"""What each pool of a planned mix costs per hour and per token, and against an API."""

from __future__ import annotations

from dataclasses import dataclass

from sizing.economics import ApiPrice, FleetCost, break_even_share, capacity_cost
from sizing.planning.fleet_types import Fleet, FleetPool, Mix

__all__ = ["PoolMoney", "idle_reserved_dollars_per_hour", "pool_money"]


@dataclass(frozen=True, slots=True)
class PoolMoney:
    """The cost of a pool's replicas at the price of their stock, reserved stock included.

    ``cost`` is at ``requests_per_second``, the pool's median demand, not at the quantile that it is planned for.
    Against an API: ``api_dollars_per_hour`` for the same requests, and the break-even utilisation, above which the
    replicas are cheaper. None without an API.
    """

    pool: str
    gpus: int
    replicas: int
    capacity_requests_per_second: float
    requests_per_second: float
    cost: FleetCost
    dollars_per_request: float | None
    api_dollars_per_hour: float | None
    break_even_utilisation: float | None


def pool_money(fleet: Fleet, pool: FleetPool, mix: Mix, api: ApiPrice | None = None) -> PoolMoney | None:
    """Return what a pool costs in a mix; None where it has no replica.

    Raises:
        InvalidInput: a price of the API cannot be.
    """
    prices = {line.name: line.price.dollars_per_gpu_hour for line in fleet.stock}
    mine = [(c, n) for c, n in mix.replicas if c.pool == pool.name]
    if not mine:
        return None
    dollars = sum(prices[c.stock] * c.gpus * n for c, n in mine)
    capacity = sum(c.requests_per_second * n for c, n in mine)
    rate = pool.demand_at(0.5)
    served = min(rate, capacity)
    return PoolMoney(
        pool=pool.name,
        gpus=sum(c.gpus * n for c, n in mine),
        replicas=sum(n for _, n in mine),
        capacity_requests_per_second=capacity,
        requests_per_second=rate,
        cost=capacity_cost(dollars, capacity, pool.workload, rate),
        dollars_per_request=dollars / (served * 3600) if served else None,
        api_dollars_per_hour=None if api is None else api.dollars_per_request(pool.workload) * served * 3600,
        break_even_utilisation=None if api is None else break_even_share(dollars, capacity, pool.workload, api),
    )


def idle_reserved_dollars_per_hour(fleet: Fleet, mix: Mix) -> float:
    """Return what the reserved stock costs that a mix does not use."""
    lines = {line.name: line for line in fleet.stock}
    used = sum(
        c.gpus * n * lines[c.stock].price.dollars_per_gpu_hour
        for c, n in mix.replicas
        if lines[c.stock].committed_dollars_per_hour
    )
    return max(0.0, fleet.committed_dollars_per_hour - used)
