"""Batches in hand: begun in order, worked on beside each other, acknowledged each when it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["AfterFailureError", "InflightBatches"]

_log = logging.getLogger(__name__)


class AfterFailureError(Exception):
    """The batch is left alone, because another one has failed and the process ends."""


class InflightBatches:
    """At most ``most`` batches at a time. After the first failure nothing more is acknowledged."""

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: BaseException | None = None

    async def begin(
        self,
        work: Callable[[], Awaitable[None]],
        done: Callable[[], Awaitable[Any]],
        failed: Callable[[BaseException], Awaitable[Any]],
    ) -> None:
        """Start ``work`` and return when there is room for the next; then ``done`` or ``failed`` is awaited.

        Tasks start in the order in which they were begun. ``failed`` hears of the first failure only: what fails after
        it, or is left alone because of it (``AfterFailureError``), is read again by the next process.
        """
        await self._room.acquire()

        async def finish() -> None:
            try:
                await work()
                await done()
            except AfterFailureError:
                pass
            except Exception as error:
                if self.failure is None:
                    self.failure = error
                    await failed(error)
                else:
                    _log.info("failed as well: %r", error)
            finally:
                self._room.release()

        task = asyncio.create_task(finish())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check(self) -> None:
        """Go on only if nothing has failed.

        Raises:
            AfterFailureError: something has.
        """
        if self.failure is not None:
            raise AfterFailureError

    async def finished(self) -> None:
        """Wait until nothing is in hand."""
        if self._tasks:
            await asyncio.wait(self._tasks)
