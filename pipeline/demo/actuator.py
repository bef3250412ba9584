"""The simulated fleet's autoscaler: follows recommendations, with the delay that a GPU replica takes to start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.demo.scenario import Scenario
from pipeline.demo.service import START_UP_SECONDS
from pipeline.windows.types import PoolKey

__all__ = ["REPLICA_STATUS_SCHEMA", "FleetActuator"]

REPLICA_STATUS_SCHEMA = "tokentide.replica.status.v1"


@dataclass
class _PoolReplicas:
    ready: int
    minimum: int
    maximum: int
    starting: list[tuple[float, int]] = field(default_factory=list)  # (ready_at, replicas), in order of time


class FleetActuator:
    """Replicas of every pool: up after ``lead_seconds``, down at once. Times are epoch seconds of event time.

    Calls must come in order of time; a call with an older time sees the newest state.
    """

    def __init__(self, scenario: Scenario, lead_seconds: float = START_UP_SECONDS) -> None:
        self._lead_seconds = lead_seconds
        self._keys = {spec.key: number for number, spec in enumerate(scenario.pools)}
        self._pools = [
            _PoolReplicas(
                ready=scenario.planned_replicas(number, scenario.live_start),
                minimum=spec.settings.min_replicas,
                maximum=spec.settings.max_replicas,
            )
            for number, spec in enumerate(scenario.pools)
        ]

    def apply(self, model: str, pool: str, desired: int, now: float) -> None:
        """Aim at ``desired`` replicas (kept within the pool's limits); an unknown pool is nobody's and is ignored."""
        number = self._keys.get(PoolKey(model, pool))
        if number is None:
            return
        state = self._pools[number]
        self._start_due(state, now)
        desired = min(max(desired, state.minimum), state.maximum)
        surplus = self._current(state) - desired
        if surplus < 0:
            state.starting.append((now + self._lead_seconds, -surplus))
        while surplus > 0 and state.starting:  # what has not started yet is given up first
            ready_at, count = state.starting.pop()
            kept = max(count - surplus, 0)
            surplus -= count - kept
            if kept:
                state.starting.append((ready_at, kept))
        state.ready -= max(surplus, 0)

    def ready(self, pool: int, time: float) -> int:
        """Return the replicas of pool number ``pool`` that serve at ``time``."""
        state = self._pools[pool]
        self._start_due(state, time)
        return state.ready

    def status(self, now: float) -> list[dict[str, Any]]:
        """Return one ``tokentide.replica.status.v1`` record per pool: ``current`` counts starting ones, too."""
        records = []
        for key, number in self._keys.items():
            state = self._pools[number]
            self._start_due(state, now)
            records.append(
                {
                    "schema": REPLICA_STATUS_SCHEMA,
                    "model": key.model,
                    "pool": key.pool,
                    "at": now,
                    "current": self._current(state),
                    "ready": state.ready,
                }
            )
        return records

    @staticmethod
    def _current(state: _PoolReplicas) -> int:
        return state.ready + sum(count for _, count in state.starting)

    @staticmethod
    def _start_due(state: _PoolReplicas, now: float) -> None:
        while state.starting and state.starting[0][0] <= now:
            state.ready += state.starting.pop(0)[1]
