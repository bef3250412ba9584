"""The split of the shared stock outlives the controller."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.publish.exporter import Exporter
from pipeline.publish.fleet_planner import FleetPlanner
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.controller.app import controller_app
from sizing.catalog import Catalog
from tests.publish_feed import Feed
from tests.stock_feed import share_stock


def test_the_split_is_made_after_the_last_part_of_a_step_and_is_there_after_a_restart(tmp_path: Path) -> None:
    feed = Feed()
    feed.step()
    shared = share_stock(feed).shared
    advice = [view.recommendation for view in feed.live.snapshot().pools if view.recommendation is not None]
    settings = Settings(pools=feed.settings, kafka={"publish_results": False})
    path = tmp_path / "tokentide.duckdb"

    def started(store: Store) -> tuple[Any, FleetPlanner]:
        live = LiveState(ManualClock(feed.as_of), feed.settings)
        live.fleet = FleetPlanner(shared, feed.settings, Catalog())
        app: Any = controller_app(settings, ManualClock(feed.as_of), store, Advisor(settings), live, 1)
        return app, live.fleet

    async def first(store: Store) -> None:
        app, planner = started(store)
        await app.controller._tell(StepOutput(feed.as_of, recommendations=tuple(advice[:1])), finished=False)
        assert planner.state is None
        assert store.fleet_split() is None
        await app.controller._tell(StepOutput(feed.as_of, recommendations=tuple(advice[1:])))
        assert planner.state is not None
        assert len(planner.state.terms) == len(advice)
        assert store.fleet_split() is not None
        await app.controller.stop()

    async def second(store: Store, before: str) -> None:
        app, planner = started(store)
        state = planner.state
        assert state is not None
        assert state.plan is not None
        metrics = Exporter(app.controller._live).render().decode()  # before the first step
        assert f"tokentide_fleet_split_dollars_per_hour {state.plan['dollars_per_hour']!r}" in metrics
        await app.controller._tell(StepOutput(feed.as_of + 60, recommendations=tuple(advice)))
        assert planner.state is state, "the advice is the same: no reason to split anew"
        assert store.fleet_split() == before
        await app.controller.stop()

    with Store.open(path) as store:
        asyncio.run(first(store))
    with Store.open(path) as store:
        asyncio.run(second(store, store.fleet_split() or ""))
