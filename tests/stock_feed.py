"""A stock that the pools of the published feed share."""

from __future__ import annotations

from pipeline.config.stock_file import PoolTerms, SharedStock
from pipeline.publish.fleet_planner import FleetPlanner
from pipeline.windows.types import PoolKey
from sizing.catalog import Catalog, Price
from sizing.planning.fleet_types import CapacityType, Stock
from tests.publish_feed import Feed

__all__ = ["share_stock"]


def share_stock(feed: Feed, *, l40s: int = 40, budget: float | None = None) -> FleetPlanner:
    """Give the pools of a feed a stock and split it.

    It has 4 reserved L40S, ``l40s`` on demand and 64 H100; the chat pools come first.
    """
    stock = (
        Stock("l40s-reserved", "l40s", CapacityType.RESERVED, 4, Price(0.6, "contract", "2023-11-01")),
        Stock("l40s", "l40s", CapacityType.ON_DEMAND, l40s, Price(1.0, "list", "2023-11-01")),
        Stock("h100", "h100-sxm", CapacityType.ON_DEMAND, 64, Price(3.0, "list", "2022-11-01")),
    )
    terms = {
        PoolKey(p.model, p.pool): PoolTerms(priority=1 if p.pool == "chat" else 2, gpus=(p.accelerator.lower(),))
        for p in feed.settings
    }
    shared = SharedStock(stock, budget, change_dollars=0.1, hold_hours=1.0, pools=terms)
    feed.live.fleet = planner = FleetPlanner(shared, feed.settings, Catalog())
    views = feed.live.snapshot().pools
    planner.take(advice for view in views if (advice := view.recommendation or view.expired) is not None)
    planner.split(feed.as_of)
    return planner
