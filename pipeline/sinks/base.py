"""The protocol of a sink: a destination of the controller's results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.engine.types import StepOutput

__all__ = ["Sink", "SinkContext", "SinkFactory"]


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink is made from: all settings, the clock of the pipeline, and the options of its own table."""

    settings: Settings
    clock: Clock
    options: Mapping[str, Any]


class Sink(Protocol):
    """Receives every step once its closed windows are in the store, in order of time.

    A step of many pools comes in parts of some pools each, all with the ``as_of`` of the step. Between two steps there
    may be revisions: the recommendations that reports of fleets raised, with the ``readings`` that raised them.

    Delivery is at least once: after a restart the last step is published again, with the newest advice, so a receiver
    must recognise ``recommendation_id``, ``alert_id`` or (key, time). The output is shared and must not be changed.

    A sink whose destination is required raises ``pipeline.errors.ServerUnavailable`` from ``publish``: the controller
    then stops, is restarted and publishes the step again. A sink that must never hold back the controller keeps its own
    bounded queue, counts what it drops in ``dropped`` and returns at once.
    """

    #: Results that were given up, since the start of the process.
    dropped: int

    async def start(self) -> None:
        """Connect. Called once, before the first ``publish``.

        Raises:
            ServerUnavailable: the destination is required and does not answer.
        """
        ...

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        """Take the results of one step, or a part of them; ``finished``: no further part of this step follows.

        Raises:
            ServerUnavailable: the destination is required and did not take them.
        """
        ...

    async def stop(self) -> None:
        """Finish what was taken, for a few seconds at most, and disconnect. May be called without ``start``."""
        ...


#: Makes a sink; raises ``pipeline.errors.ConfigError`` when an option is unknown or wrong.
SinkFactory = Callable[[SinkContext], Sink]
