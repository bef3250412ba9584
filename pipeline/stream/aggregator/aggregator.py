"""The aggregator: request events in, deltas out. Stateless: what it must know it learns from the log of deltas.

For each partition: read a batch, fold it into a delta, write the dead letters, write the delta, make sure that nobody
else wrote in between, and only then acknowledge the batch. On assignment the tail of the delta partition says from
which source offset on events count; the records of the dedupe horizon before it are read again to remember their ids.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from faust.types import TP

import pipeline
from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.errors import TokentideError
from pipeline.events.validation import EventLimits
from pipeline.kafka.partition_reader import log_bounds, partition_reader
from pipeline.kafka.producer import new_producer
from pipeline.stream.aggregator.stats import StreamStats
from pipeline.stream.kafka.batch import RecordBatch, batch_topic
from pipeline.stream.kafka.cutting import cut
from pipeline.stream.kafka.dead_letters import send_dead_letters
from pipeline.stream.kafka.delta_log import DeltaLog, DeltaTooLarge
from pipeline.stream.kafka.faust_app import PipelineApp, instance_id, kafka_app
from pipeline.stream.kafka.membership import MembershipGuard
from pipeline.stream.process.inflight import InflightBatches
from pipeline.stream.process.watchdog import Watchdog, guard, stall_seconds
from pipeline.stream.unreadable import name_unreadable
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import ShardChains
from pipeline.windows.types import Delta

__all__ = ["Aggregator", "aggregator_app"]

_log = logging.getLogger(__name__)

STATS_SECONDS = 10.0
#: Batches whose deltas may be on their way to the broker while the next one is folded.
IN_FLIGHT = 4


@dataclass(slots=True)
class _Partition:
    """What is known of one owned partition. ``position``: next source offset that counts. ``read``: next one expected
    from the consumer (below ``position`` while the dedupe memory is refilled). ``chains``: what the logs of deltas
    cover. ``most_records``: no delta may hold more, because larger ones were refused (None: none was).
    """

    epoch: int
    position: int
    read: int
    chains: ShardChains
    folder: PartitionAggregator
    lost: int = 0
    most_records: int | None = None
    written_at: float = 0.0  # monotonic seconds; 0: nothing yet, so that the first heartbeat comes at once
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Aggregator:
    """Folds the partitions that Faust assigns; ``consumer`` gives the app's ``BatchConsumer`` once there is one."""

    def __init__(self, settings: Settings, clock: Clock, consumer: Callable[[], Any]) -> None:
        self._settings = settings
        self._clock = clock
        self._latest = clock.now()
        stream = settings.stream
        self._limits = EventLimits(stream.max_event_bytes, stream.max_age_seconds, stream.max_ahead_seconds)
        self._producer_id = instance_id(settings)
        self._partitions: dict[TP, _Partition] = {}
        self._get_consumer = consumer
        self._producer: Any = None
        self._deltas: DeltaLog | None = None
        self._hand = InflightBatches(IN_FLIGHT)
        self._codecs = {source.topic: source.reader() for source in settings.sources()}
        self._aliases = settings.aliases()
        self.stats = StreamStats()

    async def start(self) -> None:
        """Connect the producer.

        Raises:
            KafkaError: no broker answers.
        """
        kafka = self._settings.kafka
        self._producer = new_producer(self._settings, "aggregate")
        await self._producer.start()
        self._deltas = DeltaLog(kafka, kafka.deltas_topics(), self._producer)

    async def stop(self) -> None:
        """Write out what is pending and disconnect."""
        await self._hand.finished()
        if self._producer is not None:
            await self._producer.stop()

    @property
    def _consumer(self) -> Any:
        return self._get_consumer()

    async def start_partitions(self, epochs: Mapping[TP, int]) -> dict[TP, int]:
        """The position source: take over exactly these partitions and say where to start reading each.

        Raises:
            TokentideError: the source topic ends before what the deltas cover (it was recreated), or the tail of the
                deltas cannot be understood.
        """
        self._partitions = {}
        starts = {}
        for tp, epoch in epochs.items():
            partition = await self._take_over(tp, epoch)
            self._partitions[tp] = partition
            starts[tp] = partition.read
        return starts

    async def _take_over(self, tp: TP, epoch: int) -> _Partition:
        assert self._deltas is not None
        stream = self._settings.stream
        async with partition_reader(self._settings.kafka, tp.topic, tp.partition) as (reader, source):
            begin, end = await log_bounds(reader, source)
        chains = await self._deltas.chains(tp.topic, tp.partition, begin)
        position = chains.position
        if chains.reached > end:
            raise TokentideError(
                f"{tp.topic}[{tp.partition}] ends at offset {end}, but deltas cover it up to {chains.reached}: the "
                "topic was recreated; recreate the deltas topic and the store as well"
            )
        read = max(begin, position - stream.dedupe_horizon_records)
        partition = _Partition(epoch, position, read, chains, self._new_folder(tp))
        if begin > position:
            self._note_loss(tp, partition, position, begin)
        _log.info(
            "%s[%d]: events count from offset %d, reading from %d", tp.topic, tp.partition, partition.position, read
        )
        return partition

    def _new_folder(self, tp: TP) -> PartitionAggregator:
        return PartitionAggregator(
            tp.topic,
            tp.partition,
            self._producer_id,
            self._limits,
            self._settings.stream.dedupe_horizon_records,
            self._settings.windows.dimensions,
            self._codecs.get(tp.topic),
            self._aliases,
            {(pool.model, pool.pool): (pool.ttft_seconds, pool.tpot_seconds) for pool in self._settings.pools},
        )

    def _note_loss(self, tp: TP, partition: _Partition, start: int, end: int) -> None:
        """Offsets [start, end) are gone from the log; the next delta covers them and says so."""
        _log.error("%s[%d]: offsets %d..%d are lost to retention", tp.topic, tp.partition, start, end - 1)
        partition.lost += end - start
        partition.position = end

    async def begin(
        self, batch: RecordBatch, done: Callable[[], Awaitable[Any]], failed: Callable[[BaseException], Awaitable[Any]]
    ) -> None:
        """Start to ``take`` a batch and return when there is room for the next; then ``done`` or ``failed`` is awaited.

        While the broker takes the delta of one partition the batch of another is folded. Batches of one partition stay
        in order: tasks start in the order in which they were begun, and the partition's lock is fair. After a failure
        what has not begun is neither folded nor acknowledged: behind a delta that was not written nothing would fit.
        """
        await self._hand.begin(partial(self.take, batch), done, failed)

    async def take(self, batch: RecordBatch) -> None:
        """Fold one batch and see its delta into the log; returns when the batch may be acknowledged.

        Raises:
            ServerUnavailable: the broker refused the delta or a dead letter; the process should restart.
        """
        partition = self._partitions.get(batch.tp)
        if partition is not None:
            async with partition.lock:
                self._hand.check()
                await self._fold_parts(batch, partition)
        batch.release()

    async def _fold_parts(self, batch: RecordBatch, partition: _Partition) -> None:
        if self._partitions.get(batch.tp) is not partition or partition.epoch != batch.epoch:
            return  # read before the last seek: it is read again
        for whole in cut(batch, partition.chains.cuts):
            for part in whole.split(partition.most_records) if partition.most_records else [whole]:
                await self._fold(part, partition)
                if partition.epoch != batch.epoch:
                    return  # realigned: the rest is read again

    async def _fold(self, batch: RecordBatch, partition: _Partition) -> None:
        if batch.first_offset < partition.read:
            raise TokentideError(f"{batch!r} repeats offsets below {partition.read}")
        if batch.first_offset > max(partition.read, partition.position):
            self._note_loss(batch.tp, partition, max(partition.read, partition.position), batch.first_offset)
        partition.read = batch.next_offset
        self.stats.batches += 1
        delta, letters = partition.folder.fold(
            batch.values,
            batch.offsets,
            batch.timestamps,
            batch.first_offset,
            batch.next_offset,
            self._now(),
            emit_from=partition.position,
            lost=partition.lost,
            sizes=batch.sizes,
            headers=batch.headers_at,
            caught_up=batch.caught_up,
        )
        if delta is None:
            return  # only refilled the dedupe memory
        if batch.unreadable:
            letters = name_unreadable(batch, delta, letters)
        if letters:
            await send_dead_letters(
                self._producer,
                self._settings.kafka.dead_letters_topic,
                batch,
                letters,
                max_bytes=self._settings.stream.dead_letter_bytes,
                app_version=pipeline.__version__,
            )
        await self._write(batch.tp, partition, delta)
        self.stats.count(delta)

    def _now(self) -> float:
        """The clock, never set back: events would seem to come from the future and be refused."""
        self._latest = max(self._latest, self._clock.now())
        return self._latest

    async def _write(self, tp: TP, partition: _Partition, delta: Delta) -> None:
        """Append a delta; when somebody else wrote meanwhile, go on from where the log says."""
        assert self._deltas is not None
        try:
            await self._deltas.append(delta, partition.chains)
        except DeltaTooLarge as error:
            if delta.records < 2:
                raise
            partition.most_records = delta.records // 2
            _log.warning("%s; from now on at most %d records go into one", error, partition.most_records)
        partition.lost = 0
        partition.position = delta.through_offset + 1
        partition.written_at = time.monotonic()
        if partition.chains.position != partition.position:
            await self._realign(tp, partition)

    async def _realign(self, tp: TP, partition: _Partition) -> None:
        """Go on from where the logs say: somebody else wrote meanwhile, or a delta did not fit."""
        self.stats.realigned += 1
        reached = partition.position = partition.chains.position
        begin = (await self._consumer.earliest_offsets(tp))[tp]
        partition.read = max(begin, reached - self._settings.stream.dedupe_horizon_records)
        _log.warning("%s[%d]: realigned; events count from offset %d now", tp.topic, tp.partition, reached)
        partition.folder = self._new_folder(tp)
        if begin > reached:
            self._note_loss(tp, partition, reached, begin)
        partition.epoch = await self._consumer.rewind(tp, partition.read)

    async def beat(self) -> None:
        """Write a heartbeat for every owned partition that is caught up and had no delta for a while.

        Raises:
            ServerUnavailable: the broker refused it.
        """
        partitions = dict(self._partitions)
        if not partitions or self._hand.failure is not None:
            return
        owned = self._consumer.assignment()
        waiting = [tp for tp in partitions if tp in owned]
        listed = await self._consumer.highwaters(*waiting)  # asks the broker: one that is stuck gets no heartbeats
        for tp in waiting:
            partition = partitions[tp]
            end = max(listed[tp], self._consumer.highwater(tp) or 0)
            self.stats.lag[tp.topic, tp.partition] = max(0, end - partition.position)
            silent = time.monotonic() - partition.written_at
            if partition.position != end or silent < self._settings.stream.heartbeat_seconds:
                continue
            async with partition.lock:
                # Meanwhile a batch may have been folded, or the partition taken away.
                still_owned = self._partitions.get(tp) is partition
                if partition.position == end and still_owned and self._hand.failure is None:
                    await self._write(tp, partition, partition.folder.heartbeat(partition.position))
                    self.stats.heartbeats += 1

    def positions(self) -> dict[TP, int]:
        """Next source offset expected from the consumer, by partition."""
        return {tp: partition.read for tp, partition in self._partitions.items()}

    def forget(self, revoked: set[TP]) -> None:
        """Stop writing for partitions that were taken away."""
        for tp in revoked:
            self._partitions.pop(tp, None)
            self.stats.lag.pop((tp.topic, tp.partition), None)


def aggregator_app(settings: Settings, clock: Clock) -> PipelineApp:
    """The Faust app of one aggregator; ``app.aggregator`` is its ``Aggregator``."""
    app = kafka_app(settings, "aggregate")
    aggregator = app.aggregator = Aggregator(settings, clock, lambda: app.consumer)
    app.resources += [aggregator, MembershipGuard(app, settings.kafka)]
    app.transport.position_source = aggregator.start_partitions
    topics = [source.topic for source in settings.sources()]
    topic = batch_topic(app, *topics, queued_batches=settings.stream.queued_batches)

    @app.agent(topic, name="aggregate", concurrency=1)  # type: ignore[untyped-decorator]
    async def aggregate(stream: Any) -> None:
        by_hand = stream.noack()
        async for event in by_hand.events():
            # An error ends the process: the records that caused it are not acknowledged and are read again.
            await aggregator.begin(event.value, partial(by_hand.ack, event), app.crash)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget(_app: Any, revoked: set[TP], **_: Any) -> None:
        aggregator.forget(revoked)

    watchdog = Watchdog(stall_seconds(settings))

    @app.task  # type: ignore[untyped-decorator]
    async def watch() -> None:
        await guard(app, watchdog)

    @app.task  # type: ignore[untyped-decorator]
    async def heartbeat() -> None:
        logged_at = time.monotonic()
        while not app.should_stop:
            await app.sleep(settings.stream.heartbeat_seconds / 2)
            if not app.rebalancing:
                await aggregator.beat()
                watchdog.look(aggregator.positions(), sum(aggregator.stats.lag.values()))
            if time.monotonic() - logged_at >= STATS_SECONDS:
                logged_at = time.monotonic()
                aggregator.stats.log()

    return app
