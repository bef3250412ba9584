"""The split of the stock that pools share, as metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from pipeline.publish.exposition import Sample
from pipeline.publish.fleet_planner import FleetPlanner
from sizing.price_age import price_age_days

__all__ = ["fleet_samples"]


def fleet_samples(planner: FleetPlanner) -> Iterator[Sample]:
    """Yield the newest split; no more than who has which replicas where no plan was found or nothing was advised yet.

    At most 200 pools share a stock, so that there is a bounded number of them.
    """
    state, shared = planner.state, planner.shared
    yield "fleet_budget_dollars_per_hour", (), shared.budget_dollars_per_hour
    for line in shared.stock:
        yield "fleet_stock_gpus", (line.name, line.gpu, line.capacity_type.value), line.count
    if state is None:
        return
    yield "fleet_split_timestamp_seconds", (), state.as_of
    day = datetime.fromtimestamp(state.as_of, tz=UTC).date()
    for line in shared.stock:
        age = price_age_days(line.price.as_of, day)
        yield "fleet_stock_price_age_seconds", (line.name,), None if age is None else 86_400 * age
    yield "fleet_split_found", (), int(state.plan is not None)
    plan = state.plan
    if plan is None:
        return
    yield "fleet_split_dollars_per_hour", (), plan["dollars_per_hour"]
    yield "fleet_split_smallest_budget_dollars_per_hour", (), plan["smallest_budget_dollars_per_hour"]
    yield "fleet_split_changed_replicas", (), plan["changes"]
    for line in plan["stock"]:
        yield "fleet_stock_used_gpus", (line["stock"], line["gpu"], line["capacity_type"]), line["used"]
    for pool in plan["pools"]:
        yield "fleet_split_short_ratio", (pool["model"], pool["pool"]), pool["short_share"]
        for part in pool["split"]:
            labels = (pool["model"], pool["pool"], part["stock"], str(part["tensor_parallel"]))
            yield "fleet_split_replicas", labels, part["replicas"]
