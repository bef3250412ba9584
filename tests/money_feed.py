"""Prices and replica-hours of pools for the tests of what is published."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config.prices import PoolPrice
from pipeline.config.settings import PoolSettings
from pipeline.engine.replica_use import USE_SPANS
from pipeline.engine.types import ReplicaUse
from sizing.catalog import Price
from sizing.economics import ApiPrice
from sizing.usage_cost import Usage

__all__ = ["PRICE", "uses"]

USAGE = Usage(1.0, 2.0, 21_600.0, 5_400.0, 4.86e6, 1.2e6, 1.296e6)
PRICE = PoolPrice(
    Price(2.0, "a price list", "2023-11-01"), "api", ApiPrice(0.5, 1.5, 0.05, "an API", "2023-07-01", 0.25, 0.75)
)


def uses(pools: Iterable[PoolSettings]) -> tuple[ReplicaUse, ...]:
    """The same use of every pool over every span."""
    return tuple(
        ReplicaUse(pool.model, pool.pool, span, USAGE, USAGE, 2.0, 3 if span == "30d" else None)
        for pool in pools
        for span in USE_SPANS
    )
