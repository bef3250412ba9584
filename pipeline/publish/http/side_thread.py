"""One thread beside the event loop, for answers about all pools that take a while to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

__all__ = ["SideThread"]

T = TypeVar("T")


class SideThread:
    """Runs functions one after another in ``thread`` (of one worker), so that the event loop answers others meanwhile.

    Two hundred pools take tens of milliseconds after a step, twice that while the engine works: on the loop every
    reader would wait for them.
    """

    def __init__(self) -> None:
        self.thread: Executor | None = None

    async def run(self, write: Callable[[], T]) -> T:
        """Return what ``write`` does, in its turn."""
        assert self.thread is not None  # it is there for as long as the application runs
        return await asyncio.get_running_loop().run_in_executor(self.thread, write)
