"""The controller: deltas in; windows stored, closed, forecast, sized, served and published.

One process owns one store. Deltas are read through the same folding transport as requests are, from the position that
the store itself has written. All writing to the store is done in one thread, in order, and the engine's steps in
another, so that the event loop stays free for Kafka and HTTP and deltas are stored while a step is computed.

Here the two take turns: ``pipeline.stream.intake`` stores, ``pipeline.stream.closing`` closes windows;
``pipeline.stream.control_app`` is the app around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepOutput
from pipeline.clock import Clock
from pipeline.errors import StoreError
from pipeline.publish.state import LiveState
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.batch import RecordBatch
from pipeline.stream.calendar import CalendarBook
from pipeline.stream.closing import Step, WindowCloser
from pipeline.stream.health import HealthBoard
from pipeline.stream.in_hand import InHand
from pipeline.stream.intake import DeltaIntake
from pipeline.stream.replicas import ReplicaBook
from pipeline.stream.results import ResultPublisher

__all__ = ["MAX_WAITING_BATCHES", "Controller"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
#: Windows closed in a row before new deltas get a turn: a long silence must not stop the flow.
MAX_STEPS_IN_A_ROW = 60
#: Batches that may wait to be stored together.
MAX_WAITING_BATCHES = 32


class Controller:
    """Applies deltas and closes windows; a resource of the app. ``consumer`` gives the app's ``BatchConsumer``."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        store: Store,
        advisor: Advisor,
        live: LiveState,
        results: ResultPublisher,
        partitions: int,
        consumer: Callable[[], Any],
    ) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._results = results
        self.replicas = ReplicaBook()
        self.calendar = CalendarBook(now=clock.now)
        self.health = HealthBoard(settings, clock, store)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tokentide-writer")
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="tokentide-engine")
        self._closer = WindowCloser(settings, store, advisor, self.replicas, self.calendar)
        self.intake = DeltaIntake(settings, clock, store, self.health, partitions, consumer, self._write)
        self._hand = InHand(MAX_WAITING_BATCHES)
        self._flow = asyncio.Lock()  # who stores what waits, and closes what that makes due; taken before the others
        self._turn = asyncio.Lock()  # who writes to the store
        self._closing = asyncio.Lock()  # who closes windows; taken before the turn
        self._due = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Bring the engine to where the store is, and show and publish its last step again."""
        output = await self._write(self._closer.restore)
        if output is not None:
            await self._tell(output)

    async def stop(self) -> None:
        """Let the writer finish, and keep the engine's state."""
        self._stopping = True
        await self._hand.finished()
        async with self._closing, self._turn:
            try:
                await self._write(self._closer.save)
            except StoreError as error:
                _log.error("no snapshot at the end: %s", error)
            loop = asyncio.get_running_loop()
            for threads in (self._engine, self._writer):
                await loop.run_in_executor(None, threads.shutdown)

    async def begin(
        self, batch: RecordBatch, done: Callable[[], Awaitable[Any]], failed: Callable[[BaseException], Awaitable[Any]]
    ) -> None:
        """Start to ``take`` a batch and return when there is room for the next; then ``done`` or ``failed`` is awaited.

        What has come by the time the writer is free is stored together.
        """
        await self._hand.begin(partial(self.take, batch), done, failed)

    async def take(self, batch: RecordBatch) -> None:
        """Store a batch of deltas, and see to it that the windows that are due are closed.

        Batches that wait are stored in ONE transaction, as many as memory allows: a transaction costs about the same
        whatever it holds, and one for each of a dozen partitions would keep the writer from keeping up.

        A single window that is due is closed beside the flow of deltas (``tick``); when there are more, the flow waits
        until they have been closed, so that what is stored never runs far ahead of what is closed.

        Raises:
            StoreError: DuckDB refused; the process should restart.
            ServerUnavailable: results cannot be published.
        """
        self.intake.put(batch)
        async with self._flow:
            self._hand.check()
            while self.intake.waits(batch):  # else it was stored with another one
                if self.intake.full:
                    async with self._closing:
                        pass  # the step is over, and what was held is stored
                async with self._turn:
                    await self.intake.store_waiting()
                    due = self._windows_due(self.intake.reached())
                if due == 1:
                    self._due.set()
                elif due:
                    await self.close_due()
                self._hand.check()

    def _windows_due(self, reached: float | None) -> int:
        """Windows that wait to be closed, at least; 2 stands for many."""
        if reached is None:
            return 0
        closed, windows = self._store.last_closed(), self._settings.windows
        if closed is None:
            return 2  # the first window of all
        return max(0, min(2, int((reached - windows.allowed_lateness_seconds - closed) // windows.grain_seconds)))

    async def close_due(self) -> None:
        """Close the windows that event time has passed, oldest first, and tell everybody what follows.

        Raises:
            StoreError, ServerUnavailable: as for ``take``.
        """
        # What has begun is finished also when the caller is cancelled: the engine must not be ahead of the store.
        await asyncio.shield(self._close_due())

    async def _close_due(self) -> None:
        async with self._closing:
            reached = self.intake.reached()
            for _ in range(MAX_STEPS_IN_A_ROW):
                if self._stopping:
                    return
                async with self._turn:  # nothing of the window is stored between the look and the hold
                    end = await self._compute(self._closer.due, reached)
                    if end is None or reached is None:
                        return
                    self.intake.held.close(end, self._store.last_closed())
                step = await self._compute(self._closer.step, end, reached)
                await self._record(step)
                await self._tell(step.output)

    async def _record(self, step: Step) -> None:
        """Write a step, and then store the deltas that waited for it."""
        async with self._turn:
            await self._write(self._closer.record, step)
            # After a failure what lies before them may be missing: all is read again.
            await self.intake.release(drop=self._hand.failure is not None)

    async def _tell(self, output: StepOutput) -> None:
        self._live.update(output)
        self.health.stepped(output)
        await self._results.publish(output)
        self.health.published()
        for error in output.errors:
            _log.error("step %d: %s", output.as_of, error)

    async def tick(self) -> None:
        """Close what the clock has made due."""
        if self.intake.assigned and self.intake.event_time.complete:
            await self.close_due()

    async def wait(self) -> None:
        """Return when a window may be due, after half a second at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._due.wait(), TICK_SECONDS)
        self._due.clear()

    async def show_health(self) -> None:
        """Bring the published health up to date."""
        event_time, lag, blocked = self.intake.event_time, self.intake.lag(), self.intake.blocked
        health = await self._write(self.health.read, event_time.reached, event_time.complete, lag, blocked)
        self._live.set_health(health)

    async def retain(self) -> None:
        """Delete what is older than its retention, by event time."""
        reached = self.intake.event_time.reached
        if reached is not None:
            await self._write(self._store.retain, reached, self._closer.gone)

    async def export(self) -> None:
        """Write the history as Parquet, beside the writer; what cannot be written is logged and tried again later."""
        folder = self._settings.store.export_folder
        if folder is None:
            return
        try:
            files = await asyncio.get_running_loop().run_in_executor(None, self._store.export_parquet, folder)
        except StoreError as error:
            _log.error("%s", error)
            return
        _log.info("exported %d files with %d rows to %s", len(files), sum(file.rows for file in files), folder)

    async def _write(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, function, *args)

    async def _compute(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._engine, function, *args)
