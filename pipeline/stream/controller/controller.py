"""The controller: deltas in; windows stored, closed, forecast, sized, served and published.

One process owns one store. Deltas are read through the same folding transport as requests are, from the position that
the store itself has written. All writing to the store is done in one thread, in order, and the engine's steps in
another, so that the event loop stays free for Kafka and HTTP and deltas are stored while a step is computed.

Here the two take turns: ``pipeline.stream.controller.delta_ingest`` stores,
``pipeline.stream.controller.window_closer`` closes windows, a part of the pools at a time;
``pipeline.stream.controller.app`` is the app around them. A window's late events are told by what has closed in the
store, so deltas need not wait while the engine works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.sinks.fanout import SinkFanout
from pipeline.store.store import Store
from pipeline.stream.controller.calendar_topic import CalendarBook
from pipeline.stream.controller.closing_step import Step
from pipeline.stream.controller.delta_ingest import DeltaIntake
from pipeline.stream.controller.health import HealthBoard
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.stream.exogenous.topics import exogenous_book
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.process.inflight import InflightBatches

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
        sinks: SinkFanout,
        partitions: int,
        consumer: Callable[[], Any],
        exporter: Exporter | None = None,
        sources: Mapping[str, int] | None = None,
        replicas: ReplicaBook | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._store = store
        self._live = live
        self._exporter = exporter or Exporter(live)
        self._sinks = sinks
        self.replicas = replicas or ReplicaBook()
        self.calendar = CalendarBook(now=clock.now)
        self.exogenous = exogenous_book(settings)
        self.health = HealthBoard(settings, clock, store)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tokentide-writer")
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="tokentide-engine")
        self._closer = WindowCloser(settings, store, advisor, self.replicas, self.calendar, self.exogenous)
        self.intake = DeltaIntake(settings, clock, store, self.health, partitions, consumer, self._write, sources)
        self._hand = InflightBatches(MAX_WAITING_BATCHES)
        self._flow = asyncio.Lock()  # who stores what waits, and closes what that makes due; taken before the others
        self._turn = asyncio.Lock()  # who writes to the store
        self._closing = asyncio.Lock()  # who closes windows; taken before the turn
        self._due = asyncio.Event()
        self._stopping = False
        self._restored: asyncio.Future[None] | None = None
        self._recalled: asyncio.Future[None] | None = None
        #: Called whenever the engine has got further, from any thread.
        self.moved: Callable[[], None] = lambda: None
        #: How many reports of replicas were refused.
        self.reports_rejected: Callable[[], int] = lambda: 0

    async def start(self) -> None:
        """Show and publish the last step again as it is stored, and begin to bring the engine there.

        The last advice is good until it expires; deltas are stored meanwhile, windows close once the engine is there.
        """
        output = await self._write(self._store.last_output)
        if output is not None:
            await self._tell(output)
        self._restored = asyncio.ensure_future(self._restore())

    async def _restore(self) -> None:
        began = time.monotonic()
        restoring = asyncio.ensure_future(self._compute(self._closer.restore, lambda: self._stopping))
        while not restoring.done():  # with thousands of pools, or after an upgrade, it takes minutes
            self.moved()
            await asyncio.wait([restoring], timeout=TICK_SECONDS)
        restoring.result()
        _log.info("the engine is where the store is after %.1f s", time.monotonic() - began)
        self._keep_recent()

    def _keep_recent(self) -> None:
        """Begin to bring what readers have in memory up to the last step; not twice at a time."""
        if self._recalled is None or self._recalled.done():
            self._recalled = asyncio.ensure_future(self._read_recent())

    async def _read_recent(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._store.keep_recent)
        except StoreError as error:
            _log.error("%s; readers of history ask the store for everything", error)

    async def stop(self) -> None:
        """Let the writer finish, and keep the engine's state."""
        self._stopping = True
        await self._hand.finished()
        begun = [future for future in (self._restored, self._recalled) if future is not None]
        if begun:
            await asyncio.wait(begun)
        async with self._closing, self._turn:
            try:
                state = await self._compute(self._closer.state)
                if state is not None:
                    await self._write(self._closer.keep, state)
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
            if self._restored is not None:
                await self._restored
            for step in range(MAX_STEPS_IN_A_ROW):
                if self._stopping:
                    return
                if not await self._step():
                    if step:
                        self._keep_recent()
                    else:
                        await self._revise()
                    return

    async def _step(self) -> bool:
        """Close the windows that are due, in parts; whether there were any."""
        step: Step | None = None
        while True:
            async with self._turn:  # nothing is stored between the look at a window and its end
                reached = self.intake.reached()
                if step is None and reached is not None:
                    step = await self._compute(self._closer.begin, reached)
                if step is None or reached is None:
                    return False
                last = self._closer.is_last(step)
                part = await self._compute(self._closer.read, step, reached)
                if last:
                    output = await self._compute(self._closer.advise, step, part)
                    await self._write(self._closer.record, step)
                else:
                    await self._write(self._closer.close, step, part)
            if not last:
                output = await self._compute(self._closer.advise, step, part)
            await self._tell(output, finished=last)
            if last:
                break
        state = await self._compute(self._closer.due_state)
        if state is not None:
            async with self._turn:
                await self._write(self._closer.keep, state)
        return True

    async def _revise(self) -> None:
        """Raise advice by what fleets have reported since the last step; no window is due."""
        async with self._turn:
            reached = self.intake.event_time.reached
            output = await self._compute(self._closer.revise, reached, self._clock.now())
            if output is None:
                return
            await self._write(self._closer.record_revision, output)
        await self._tell(output)

    async def _tell(self, output: StepOutput, *, finished: bool = True) -> None:
        """Show and publish what a step, a part of one, or a revision says."""
        self.health.stepped(output)
        await self._sinks.publish(output, finished=finished)
        await self._split(output, finished)
        self.health.published()
        self.moved()

    async def _split(self, output: StepOutput, finished: bool) -> None:
        """Split the shared stock by the advice of a step, once all of it is there, before the next step begins.

        A crash in between costs nothing: the last step is told again at the start, and splits from where the store is.
        """
        planner = self._live.fleet
        if planner is None:
            return
        planner.take(output.recommendations)
        if not finished:
            return
        # A revision belongs to the step before it: the split after the next step must not come later for it.
        step = self._store.last_closed() if output.readings else None
        body = await self._compute(planner.split, output.as_of if step is None else step)
        if body is not None:
            await self._write(self._store.save_fleet_split, body)

    async def show_metrics(self, *, finished: bool = True) -> None:
        """Write the text of /metrics, so that the next scrape takes no time from anybody."""
        await self._compute(self._exporter.prepare if finished else self._exporter.refresh)

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
        health = replace(
            health,
            sink_dropped=self._sinks.dropped,
            fleet_reports_rejected=self.reports_rejected(),
            alert_rule_errors=self._closer.alert_rule_errors,
            exogenous_rows={} if self.exogenous is None else self.exogenous.outcomes(),
        )
        self._live.set_health(health)
        self._live.set_calendar(self.calendar.records().values())

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
