"""The controller: deltas in; windows stored, closed, forecast, sized, served and published.

One process owns one store. Deltas are read through the same folding transport as requests are, from the position that
the store itself has written; all batches that wait, of whatever partitions, are one transaction. All writing to the
store is done in one thread, in order, and the engine's steps in another, so that the event loop stays free for Kafka
and HTTP and deltas are stored while a step is computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, takewhile
from typing import Any, TypeVar

from faust.types import TP

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepOutput
from pipeline.clock import Clock
from pipeline.errors import CodecError, StoreError, TokentideError
from pipeline.publish.api import create_app
from pipeline.publish.state import LiveState
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.app import PipelineApp, kafka_app
from pipeline.stream.batch import RecordBatch, batch_topic
from pipeline.stream.calendar import CalendarBook, CalendarReader
from pipeline.stream.closing import Step, WindowCloser
from pipeline.stream.health import HealthBoard
from pipeline.stream.held import HeldDeltas, Record
from pipeline.stream.http import HttpServer
from pipeline.stream.in_hand import InHand
from pipeline.stream.progress import EventTime, even_seconds
from pipeline.stream.reader import log_bounds, partition_reader
from pipeline.stream.replicas import ReplicaBook, ReplicaReader
from pipeline.stream.results import ResultPublisher
from pipeline.stream.watchdog import Watchdog, guard, stall_seconds
from pipeline.windows.delta import decode
from pipeline.windows.model import Delta

__all__ = ["Controller", "controller_app"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
HEALTH_SECONDS = 2.0
RETAIN_SECONDS = 3600.0
#: A partition that was not heard of for so many heartbeats could not deliver: the broker stood still.
BREAK_HEARTBEATS = 10
#: Windows closed in a row before new deltas get a turn: a long silence must not stop the flow.
MAX_STEPS_IN_A_ROW = 60
#: Batches that may wait to be stored together.
MAX_WAITING_BATCHES = 32
#: Bytes of JSON that are stored together, or one batch: as objects they take several times as much memory.
MAX_TOGETHER_BYTES = 16 * 1024 * 1024
#: Batches that may wait in memory for the end of a step; further ones wait in Kafka.
MAX_HELD_BATCHES = 16


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
        self._clock = clock
        self._store = store
        self._live = live
        self._results = results
        self._get_consumer = consumer
        self.replicas = ReplicaBook()
        self.calendar = CalendarBook()
        self._closer = WindowCloser(settings, store, advisor, self.replicas, self.calendar)
        topic = settings.kafka.requests_topic
        stored = {p: position for (name, p), position in store.source_positions().items() if name == topic}
        self._partitions = partitions
        speed = 1.0 if settings.clock.origin is None else settings.clock.speed
        self._event_time = EventTime(
            clock,
            partitions,
            settings.advise.gap_accept_seconds,
            stored,
            even=lambda: even_seconds() * speed,
            break_seconds=BREAK_HEARTBEATS * settings.stream.heartbeat_seconds * speed,
            settle_seconds=settings.windows.allowed_lateness_seconds,
        )
        self.health = HealthBoard(settings, clock, store)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tokentide-writer")
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="tokentide-engine")
        self._held = HeldDeltas()
        self._epochs: dict[TP, int] = {}
        self._blocked: set[int] = set()  # delta partitions with a gap
        self._hand = InHand(MAX_WAITING_BATCHES)
        self._waiting: list[RecordBatch] = []  # not stored yet, in order
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

    async def start_partitions(self, epochs: Mapping[TP, int]) -> dict[TP, int]:
        """The position source: where the store has got to in each delta partition.

        Raises:
            TokentideError: the deltas topic ends before the stored position (it was recreated), or has more partitions
                than when this process started.
        """
        beyond = [tp for tp in epochs if tp.partition >= self._partitions]
        if beyond:
            raise TokentideError(f"{beyond[0].topic} has grown beyond {self._partitions} partitions: starting again")
        self._epochs = dict(epochs)
        starts = {}
        for tp in epochs:
            stored = self._store.delta_positions().get(tp.partition, 0)
            async with partition_reader(self._settings.kafka.bootstrap, tp.topic, tp.partition) as (reader, own):
                begin, end = await log_bounds(reader, own)
            if stored > end:
                raise TokentideError(
                    f"{tp.topic}[{tp.partition}] ends at offset {end}, but the store has applied it up to {stored}: "
                    "the topic was recreated; start with a new store"
                )
            starts[tp] = max(begin, stored)
        return starts

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
        self._waiting.append(batch)
        async with self._flow:
            self._hand.check()
            while batch in self._waiting:  # else it was stored with another one
                if len(self._held) >= MAX_HELD_BATCHES:
                    async with self._closing:
                        pass  # the step is over, and what was held is stored
                async with self._turn:
                    await self._store_waiting()
                    due = self._windows_due(self._event_time.advance(self._caught_up()))
                if due == 1:
                    self._due.set()
                elif due:
                    await self.close_due()
                self._hand.check()

    async def _store_waiting(self) -> None:
        """Store the first of what waits, except what has to wait for a step; call in turn."""
        waiting = _together(self._waiting, MAX_HELD_BATCHES - len(self._held))
        current = [b for b in waiting if self._epochs.get(b.tp) == b.epoch and b.partition not in self._blocked]
        found = await self._write(_all_records, current)
        records: list[Record] = []
        for batch, own in zip(current, found, strict=True):
            if self._held.holds(own):
                self._held.add(batch.epoch, own)
            else:
                records += own
        await self._apply(records)
        self._waiting = self._waiting[len(waiting) :]
        for batch in waiting:
            batch.release()

    async def _apply(self, records: list[Record]) -> None:
        if not records:
            return
        began = time.monotonic()
        result = await self._write(self._store.apply, records)
        self.health.applied(result, time.monotonic() - began)
        for (topic, partition), position in result.positions.items():
            if topic == self._settings.kafka.requests_topic:
                self._event_time.observe(partition, position)
        for gap in result.gaps:
            _log.error("%s; this partition stops here: rebuild the store (docs/adr/0001)", gap)
        self._blocked |= result.blocked

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
            reached = self._event_time.advance(self._caught_up())
            for _ in range(MAX_STEPS_IN_A_ROW):
                if self._stopping:
                    return
                async with self._turn:  # nothing of the window is stored between the look and the hold
                    end = await self._compute(self._closer.due, reached)
                    if end is None or reached is None:
                        return
                    self._held.close(end, self._store.last_closed())
                step = await self._compute(self._closer.step, end, reached)
                await self._record(step)
                await self._tell(step.output)

    async def _record(self, step: Step) -> None:
        """Write a step, and then store the deltas that waited for it."""
        async with self._turn:
            await self._write(self._closer.record, step)
            released: list[Record] = []
            for epoch, records in self._held.release():
                partition = records[0][0]
                tp = TP(self._settings.kafka.deltas_topic, partition)
                if self._epochs.get(tp) == epoch and partition not in self._blocked:
                    released += records
            if self._hand.failure is None:  # else what lies before them may be missing: all is read again
                await self._apply(released)

    async def _tell(self, output: StepOutput) -> None:
        self._live.update(output)
        self.health.stepped(output)
        await self._results.publish(output)
        self.health.published()
        for error in output.errors:
            _log.error("step %d: %s", output.as_of, error)

    def _caught_up(self) -> bool:
        return bool(self._epochs) and not any(self._lag().values())

    def _lag(self) -> dict[tuple[str, int], int]:
        """Deltas not yet stored, by partition; unknown counts as one."""
        positions = self._store.delta_positions()
        consumer = self._get_consumer()
        lag = {}
        for tp in self._epochs:
            end = consumer.highwater(tp)
            stored = positions.get(tp.partition, 0)
            lag[str(tp.topic), int(tp.partition)] = 1 if end is None else max(0, end - stored)
        return lag

    def work(self) -> tuple[dict[int, int], int]:
        """Stored positions of the delta partitions, and how many deltas wait in those that did not stop at a gap.

        A controller needs every partition. One that was given fewer (a rebalance against a broker that had just
        started and did not know the topic yet) has work waiting and no position that moves.
        """
        missing = self._partitions - len(self._epochs)
        if missing > 0:
            return {}, missing
        lag = self._lag().items()
        return self._store.delta_positions(), sum(n for (_, p), n in lag if p not in self._blocked)

    async def tick(self) -> None:
        """Close what the clock has made due."""
        if self._epochs and self._event_time.complete:
            await self.close_due()

    async def wait(self) -> None:
        """Return when a window may be due, after half a second at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._due.wait(), TICK_SECONDS)
        self._due.clear()

    async def show_health(self) -> None:
        """Bring the published health up to date."""
        lag = self._lag() if self._epochs else {}
        event_time = self._event_time
        health = await self._write(self.health.read, event_time.reached, event_time.complete, lag, len(self._blocked))
        self._live.set_health(health)

    async def retain(self) -> None:
        """Delete what is older than its retention, by event time."""
        reached = self._event_time.reached
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

    def forget(self, revoked: set[TP]) -> None:
        """Stop applying partitions that were taken away."""
        for tp in revoked:
            self._epochs.pop(tp, None)

    async def _write(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, function, *args)

    async def _compute(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._engine, function, *args)


def _together(waiting: Sequence[RecordBatch], most: int) -> list[RecordBatch]:
    """Return the first batches, at least one: ``most`` of them, and as many as have ``MAX_TOGETHER_BYTES``."""
    sizes = accumulate(batch.value_bytes for batch in waiting)
    fitting = sum(1 for _ in takewhile(lambda size: size <= MAX_TOGETHER_BYTES, sizes))
    return list(waiting[: max(1, min(most, fitting))])


def _all_records(batches: Sequence[RecordBatch]) -> list[list[Record]]:
    return [
        [
            (batch.partition, offset, _decoded(batch, offset, value))
            for offset, value in zip(batch.offsets, batch.values, strict=True)
        ]
        for batch in batches
    ]


def _decoded(batch: RecordBatch, offset: int, value: bytes | None) -> Delta | None:
    try:
        return decode(value)
    except CodecError as error:
        _log.error("%s[%d] offset %d is no delta: %s", batch.topic, batch.partition, offset, error)
        return None


def controller_app(
    settings: Settings, clock: Clock, store: Store, advisor: Advisor, live: LiveState, partitions: int
) -> PipelineApp:
    """The Faust app of the controller; ``app.controller`` is its ``Controller``, ``app.http`` its server.

    ``partitions`` is that of the requests (and deltas) topic. The caller opens and closes the store.
    """
    app = kafka_app(settings, "control")
    results = ResultPublisher(settings)
    controller = app.controller = Controller(
        settings, clock, store, advisor, live, results, partitions, lambda: app.consumer
    )
    app.http = HttpServer(create_app(live, store, settings.publish, clock), settings.publish)
    app.resources += [app.http, results, ReplicaReader(settings, controller.replicas)]
    app.resources += [CalendarReader(settings, controller.calendar), controller]
    app.transport.position_source = controller.start_partitions
    topic = batch_topic(app, settings.kafka.deltas_topic, queued_batches=settings.stream.queued_batches)

    @app.agent(topic, name="control", concurrency=1)  # type: ignore[untyped-decorator]
    async def control(stream: Any) -> None:
        by_hand = stream.noack()
        async for event in by_hand.events():
            # An error ends the process; what was not stored is read again from the position in the store.
            await controller.begin(event.value, partial(by_hand.ack, event), app.crash)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget(_app: Any, revoked: set[TP], **_: Any) -> None:
        controller.forget(revoked)

    watchdog = Watchdog(stall_seconds(settings))

    @app.task  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await guard(app, watchdog)

    @app.task  # type: ignore[untyped-decorator]
    async def tick() -> None:
        while not app.should_stop:
            if not app.rebalancing:
                await controller.tick()
                watchdog.look(*controller.work())
            await controller.wait()

    @app.task  # type: ignore[untyped-decorator]
    async def show_health() -> None:
        while not app.should_stop:
            await controller.show_health()
            await app.sleep(HEALTH_SECONDS)

    @app.task  # type: ignore[untyped-decorator]
    async def retain() -> None:
        while not app.should_stop:
            await app.sleep(RETAIN_SECONDS)
            await controller.retain()

    @app.task  # type: ignore[untyped-decorator]
    async def export() -> None:
        while settings.store.export_folder is not None and not app.should_stop:
            await app.sleep(settings.store.export_every_seconds)
            await controller.export()

    return app
