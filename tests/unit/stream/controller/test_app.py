"""What the controller is made of, as its settings say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.fleet import registry
from pipeline.fleet.base import FleetContext
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.store.store import Store
from pipeline.stream.controller.app import controller_app
from pipeline.windows.types import PoolKey
from tests.publish_feed import Feed
from tests.waiting import eventually


class ScalingFleet:
    """A fleet that refused two reports and keeps what it was asked for."""

    can_scale = True
    rejected = 2

    def __init__(self, context: FleetContext) -> None:
        self.context = context
        self.asked: list[tuple[PoolKey, int]] = []

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def scale(self, key: PoolKey, replicas: int) -> None:
        self.asked.append((key, replicas))


@pytest.mark.parametrize("actuate", [False, True])
def test_the_fleet_of_the_settings_is_followed_and_scaled_only_where_that_is_allowed(
    actuate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._BUILTIN, "scaling", ScalingFleet)
    feed = Feed()
    feed.step()
    (advice, *_) = [view.recommendation for view in feed.live.snapshot().pools if view.recommendation is not None]
    settings = Settings(
        store={"path": str(tmp_path / "tokentide.duckdb")},
        kafka={"publish_results": False},
        fleet={"source": "scaling", "actuate": actuate, "options": {"address": "x"}},
    )

    async def work(store: Store) -> None:
        clock = ManualClock(advice.issued_at)
        live = LiveState(clock)
        app: Any = controller_app(settings, clock, store, Advisor(settings), live, 1)
        (fleet,) = [resource for resource in app.resources if isinstance(resource, ScalingFleet)]
        (sinks,) = [resource for resource in app.resources if isinstance(resource, SinkFanout)]
        assert fleet.context.book is app.controller.replicas
        assert fleet.context.options == {"address": "x"}
        await sinks.start()
        await sinks.publish(StepOutput(int(advice.issued_at), recommendations=(advice,)))
        if actuate:
            await eventually(lambda: fleet.asked, 30, "the fleet was asked to scale")
        await sinks.stop()
        assert fleet.asked == ([(PoolKey(advice.model, advice.pool), advice.desired)] if actuate else [])
        await app.controller.show_health()
        assert live.health().fleet_reports_rejected == 2
        assert set(live.health().alert_rule_errors) >= {"telemetry_gap"}
        await app.controller.stop()

    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        asyncio.run(work(store))
