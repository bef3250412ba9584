"""A task that runs between ``start`` and ``stop``: what fleets that look again and again have in common."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["Background"]


class Background:
    """Runs ``_run`` from ``start`` until it ends or ``stop`` cancels it."""

    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to run, in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop running; may be called without ``start``, and twice."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        raise NotImplementedError
