"""The demo's simulated replicas behind the protocol of a fleet, for a controller in the same process."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from pipeline.demo.actuator import FleetActuator
from pipeline.fleet.background import Background
from pipeline.fleet.base import FleetContext
from pipeline.fleet.kafka_reports import ReplicaStatus
from pipeline.windows.types import PoolKey

__all__ = ["SimulatedFleet"]

_LOOK_SECONDS = 0.05
_REPORT_SECONDS = 60.0


class SimulatedFleet(Background):
    """Reports every pool of ``actuator`` when its counts change, and once per minute of the context's clock."""

    can_scale = True

    def __init__(self, context: FleetContext, actuator: FleetActuator) -> None:
        self._context = context
        self._actuator = actuator
        self._told: dict[PoolKey, tuple[float, dict[str, Any]]] = {}
        self.rejected = 0

    async def scale(self, key: PoolKey, replicas: int) -> None:
        """Start or stop replicas, within the pool's limits; new ones serve once they have started."""
        self._actuator.apply(key.model, key.pool, replicas, self._context.clock.now())

    async def _run(self) -> None:
        while True:
            now = self._context.clock.now()
            for record in self._actuator.status(now):
                self._report(now, record)
            await asyncio.sleep(_LOOK_SECONDS)

    def _report(self, now: float, record: dict[str, Any]) -> None:
        key = PoolKey(record["model"], record["pool"])
        counts = {name: record[name] for name in ("current", "ready")}
        at, before = self._told.get(key, (0.0, {}))
        if counts != before or now - at >= _REPORT_SECONDS:
            self._told[key] = (now, counts)
            self._context.report(msgspec.convert(record, ReplicaStatus))
