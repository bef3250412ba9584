"""What ``/metrics``, the API and the board show, as a sink."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pipeline.engine.types import StepOutput
from pipeline.publish.state import LiveState

__all__ = ["LiveStateSink"]


class LiveStateSink:
    """Puts every step into a ``LiveState``; always the first sink of a controller.

    ``shown`` is awaited after each part with whether it was the last one of its step.
    """

    def __init__(self, live: LiveState, shown: Callable[[bool], Awaitable[None]] | None = None) -> None:
        self._live = live
        self._shown = shown
        self.dropped = 0

    async def start(self) -> None:
        """Nothing to connect."""

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        """Show a step, or a part of one."""
        self._live.update(output, finished=finished)
        if self._shown is not None:
            await self._shown(finished)

    async def stop(self) -> None:
        """Nothing to disconnect."""
