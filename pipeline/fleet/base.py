"""The protocol of a fleet: who reports how many replicas the pools have and, where allowed, changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus, decode_status
from pipeline.windows.types import PoolKey

__all__ = ["Fleet", "FleetContext", "FleetFactory"]


@dataclass(frozen=True, slots=True)
class FleetContext:
    """What a fleet is made from: all settings, the pipeline's clock, its ``fleet.options``, and where it reports."""

    settings: Settings
    clock: Clock
    book: ReplicaBook
    options: Mapping[str, Any] = field(default_factory=dict)

    def report(self, status: ReplicaStatus) -> None:
        """Note how many replicas a pool had at a time (``status.at``, epoch seconds of ``clock``).

        Call it from the event loop, whenever a count has changed and at least once a minute.

        Raises:
            CodecError: a name, a time or a number is impossible; nothing was noted.
        """
        self.book.add(decode_status(msgspec.json.encode(status)))


class Fleet(Protocol):
    """Reports replica counts through ``FleetContext.report`` between ``start`` and ``stop``.

    Reports are an aid: a fleet that cannot be asked logs that, tries again and never stops the pipeline. What is not
    reported is unknown, not 0. Its methods run in the event loop of the controller and must not block it.
    """

    #: Whether ``scale`` changes anything; False: the fleet only reports.
    can_scale: bool
    #: Reports that were refused, since the start of the process.
    rejected: int

    async def start(self) -> None:
        """Begin to report. Called once; what the fleet cannot reach is tried again in the background."""
        ...

    async def stop(self) -> None:
        """Stop reporting. May be called without ``start``, and twice."""
        ...

    async def scale(self, key: PoolKey, replicas: int) -> None:
        """Ask for ``replicas`` replicas of a pool; the same number again changes nothing.

        Called only where ``fleet.actuate`` is set, one call at a time. Any exception is logged, counted, and the newest
        recommendation is passed on again with the next step.

        Raises:
            NotImplementedError: the fleet cannot scale.
        """
        ...


#: Makes a fleet; raises ``pipeline.errors.ConfigError`` when an option is unknown or wrong.
FleetFactory = Callable[[FleetContext], Fleet]
