"""All sinks of a controller as one: started, fed and stopped together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from pipeline.engine.types import StepOutput
from pipeline.errors import ServerUnavailable
from pipeline.sinks.base import Sink

__all__ = ["SinkFanout"]

_log = logging.getLogger(__name__)


class SinkFanout:
    """Feeds sinks in their order. A required sink's ``ServerUnavailable`` passes; any other failure is that sink's own.

    A sink that fails otherwise loses that step, is logged and counted, and gets the next one all the same: a mistake in
    an extension must not stop advice.
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._failed = 0

    @property
    def dropped(self) -> int:
        """Results that were given up by any sink, since the start of the process."""
        return self._failed + sum(sink.dropped for sink in self._sinks)

    async def start(self) -> None:
        """Start every sink.

        Raises:
            ServerUnavailable, ConfigError: a sink cannot start.
        """
        for sink in self._sinks:
            await sink.start()

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        """Give a step to every sink.

        Raises:
            ServerUnavailable: a required destination did not take it.
        """
        for sink in self._sinks:
            try:
                await sink.publish(output, finished=finished)
            except ServerUnavailable:
                raise
            except Exception:
                self._failed += 1
                _log.exception("%s did not take step %d", type(sink).__name__, output.as_of)

    async def stop(self) -> None:
        """Stop every sink, the last one first, whatever others do."""
        for sink in reversed(self._sinks):
            with contextlib.suppress(Exception):
                await sink.stop()
