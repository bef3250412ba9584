"""Passes recommendations on to a fleet that scales (``fleet.actuate``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pipeline.clock import Clock
from pipeline.engine.types import StepOutput
from pipeline.fleet.base import Fleet
from pipeline.windows.types import PoolKey
from sizing.types import Recommendation, RecommendationState

__all__ = ["FleetSink"]

_log = logging.getLogger(__name__)

#: One call of ``Fleet.scale`` may take so long.
_SCALE_SECONDS = 30.0


class FleetSink:
    """Asks the fleet for what each new recommendation says, pool by pool, and never holds back the controller.

    Followed is only advice that has not expired. Advice that is not fresh may raise the number of replicas and never
    lowers it. A generation is passed on once; when the fleet refuses it, that is logged and counted in ``dropped``, and
    the next step passes on the newest advice again.
    """

    def __init__(self, fleet: Fleet, clock: Clock, scale_seconds: float = _SCALE_SECONDS) -> None:
        self._fleet = fleet
        self._clock = clock
        self._scale_seconds = scale_seconds
        self._wanted: dict[PoolKey, Recommendation] = {}
        self._asked: dict[PoolKey, int] = {}  # generation that the fleet was asked for last, and did not refuse
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    async def start(self) -> None:
        """Begin to pass on."""
        self._task = asyncio.create_task(self._run())

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:  # noqa: ARG002
        """Note the newest advice of each pool."""
        for advice in output.recommendations:
            key = PoolKey(advice.model, advice.pool)
            if self._asked.get(key) != advice.generation and _may_be_followed(advice):
                self._wanted[key] = advice
            else:
                self._wanted.pop(key, None)
        if self._wanted:
            self._arrived.set()

    async def stop(self) -> None:
        """Stop; what has not been passed on is not any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            while not self._wanted:
                self._arrived.clear()
                await self._arrived.wait()
            key = next(iter(self._wanted))
            await self._pass_on(key, self._wanted.pop(key))

    async def _pass_on(self, key: PoolKey, advice: Recommendation) -> None:
        if advice.expires_at <= self._clock.now():
            return
        self._asked[key] = advice.generation
        try:
            await asyncio.wait_for(self._fleet.scale(key, advice.desired), self._scale_seconds)
        except Exception as error:  # the fleet's own code must not end the controller
            self.dropped += 1
            self._asked.pop(key, None)
            _log.error("%s/%s: the fleet did not scale to %d replicas: %r", *key, advice.desired, error)
            return
        _log.info("%s/%s: asked the fleet for %d replicas (%s)", *key, advice.desired, advice.reason)


def _may_be_followed(advice: Recommendation) -> bool:
    return advice.state is RecommendationState.FRESH or advice.direction == "up"
