"""Faust's consumer, delivering batches, committing in order and starting where the sink says.

What differs from ``faust.transport.drivers.aiokafka.Consumer`` (faust-streaming 0.15.3), and why:

- one task per batch instead of four per record (``_drain_messages``): that is where the time goes;
- the committed offset is the end of the longest *delivered* prefix that was acknowledged (``_new_offset``); the
  original commits past a message in flight when acknowledgements come out of order or offsets have holes;
- commit before revoke: the original forgets the acknowledgements of revoked partitions before its final commit, so that
  every clean rebalance reads up to one commit interval twice;
- start positions come from an asynchronous *position source* (``perform_seek``); group offsets are for lag displays;
- every seek begins a new *epoch* of a partition: what was read before it, wherever it still lies, is recognised as out
  of date (``RecordBatch.epoch``);
- no sleep of a whole second when back-pressure has paused every partition.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as _driver
from faust.types import TP, ConsumerMessage
from mode import Service

from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.fetch import BatchConsumerThread, Fetched

__all__ = ["BatchConsumer", "PositionSource"]

#: Given the partitions that were assigned and the epoch that begins for each, says where to start reading. A partition
#: that it leaves out starts at the group's committed offset.
PositionSource = Callable[[Mapping[TP, int]], Awaitable[Mapping[TP, int]]]


class BatchConsumer(_driver.Consumer):  # type: ignore[misc]
    """In-order commits, one task per batch, commit before revoke, start positions from the sink."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inflight: dict[TP, deque[tuple[int, int]]] = defaultdict(deque)  # (acknowledged offset, next offset)
        self._epochs: dict[TP, int] = defaultdict(int)
        self._room = asyncio.Event()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> Any:
        if type(record) is not RecordBatch:
            return super()._to_message(tp, record)
        record.generation_id = self.app.consumer_generation_id  # Faust's streams compare it
        timestamp = record.timestamps[-1] / 1000.0 if record.timestamps else 0.0
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.offset,
            timestamp,
            0,
            None,
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=record.generation_id,
        )

    # ---- delivery -----------------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not self._stopping(fetcher):
                fetched = await self._next_records()
                for tp, record in self.scheduler.iterate(fetched):
                    if not self.flow_active:
                        await self._wait_any([self.can_resume_flow.wait(), *self._stops(fetcher)])
                    if self._stopping(fetcher):
                        break
                    # Out of date: the seek that made it so came later and reads it again.
                    if fetched.epochs[tp] == self._epochs[tp]:
                        await self._deliver(fetcher, tp, record)
                await asyncio.sleep(0)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if self.app.should_stop:
                return
            raise

    def _stopping(self, fetcher: Any) -> bool:
        return bool(self._stopped.is_set() or fetcher._stopped.is_set())

    def _stops(self, fetcher: Any) -> list[Awaitable[Any]]:
        return [fetcher._stopped.wait(), self._stopped.wait()]

    async def _next_records(self) -> Fetched:
        """What was fetched next; empty after a while without anything."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._get_active_partitions()
        if not active:
            self._room.clear()
            await self._wait_any([self._room.wait()], timeout=1.0)
            return Fetched({}, {})
        self.not_waiting_next_records.clear()
        try:
            fetched: Fetched = await self._getmany(active_partitions=active, timeout=1.0)
            return fetched
        finally:
            self.not_waiting_next_records.set()

    async def _deliver(self, fetcher: Any, tp: TP, record: Any) -> None:
        """Pass one record or batch to its agents; it is given up when the flow is suspended while they have no room."""
        message = self._to_message(tp, record)
        offset = message.offset
        read = self._read_offset[tp]
        if read is not None and offset < read:
            return
        next_offset = offset + 1
        epoch = self._epochs[tp]
        end = self.highwater(tp)
        if type(record) is RecordBatch:
            record.epoch = epoch
            record.caught_up = end is not None and next_offset >= end
        self.app.monitor.track_tp_end_offset(tp, end)
        queue = self._inflight[tp]
        queue.append((offset, next_offset))
        delivery = asyncio.ensure_future(self.callback(message))
        # The callback waits only for flow control or for room; suspension or a stop must end that wait.
        await self._wait_any([delivery, self.suspend_flow.wait(), *self._stops(fetcher)])
        if not delivery.done():
            # A suspended flow is resumed by a seek only, which reads this again.
            delivery.cancel()
            if queue and queue[-1] == (offset, next_offset):
                queue.pop()
            return
        delivery.result()
        if epoch == self._epochs[tp]:
            # After a seek meanwhile this offset would hide what is read anew below it.
            self._read_offset[tp] = next_offset

    @staticmethod
    async def _wait_any(waits: Iterable[Awaitable[Any]], timeout: float | None = None) -> None:
        """Wait until one is done; those that this call made tasks of are cancelled, given futures are left alone."""
        own = []
        futures = []
        for wait in waits:
            if isinstance(wait, asyncio.Future):
                futures.append(wait)
            else:
                task = asyncio.ensure_future(wait)
                own.append(task)
                futures.append(task)
        try:
            await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in own:
                task.cancel()

    def highwater(self, tp: TP) -> int | None:
        """The end of what may be read of a partition, as fetched last: before the first open transaction.

        None: nothing was fetched yet, or a rebalance has just taken the partition away.
        """
        own = TopicPartition(tp.topic, tp.partition)
        try:
            stable: int | None = self._thread._ensure_consumer().last_stable_offset(own)
            end: int | None = super().highwater(tp)
        except AssertionError:  # how aiokafka says that a partition is not assigned
            return None
        return end if stable is None or stable < 0 else stable  # brokers without transactions report none

    def on_buffer_drop(self, tp: TP) -> None:
        """Note that an agent has room again."""
        super().on_buffer_drop(tp)
        self._room.set()

    def resume_flow(self) -> None:
        """Let records flow again after a rebalance."""
        super().resume_flow()
        self._room.set()

    @property
    def waits_for_assignment(self) -> bool:
        """Whether the group has assigned nothing yet, or is about to assign anew; also before the first connection."""
        consumer = getattr(self._thread, "_consumer", None)
        return consumer is None or bool(consumer._subscription.reassignment_in_progress)

    @property
    def member_id(self) -> str:
        """This consumer's id in its group, as the coordinator gave it; empty: none yet."""
        coordinator = getattr(getattr(self._thread, "_consumer", None), "_coordinator", None)
        return str(getattr(coordinator, "member_id", "") or "")

    # ---- commit -------------------------------------------------------------------------------------------------

    def _new_offset(self, tp: TP) -> int | None:
        """End of the longest prefix of delivered messages that are all acknowledged; None: nothing new."""
        queue = self._inflight.get(tp)
        acked = self._acked_index[tp]
        new = None
        while queue and queue[0][0] in acked:
            offset, new = queue.popleft()
            acked.discard(offset)
        if new is not None:
            self._acked[tp] = [offset for offset in self._acked[tp] if offset in acked]
        return new

    def _forget(self, tps: Iterable[TP]) -> None:
        """Drop all bookkeeping of ``tps`` and begin a new epoch for each."""
        for tp in list(tps):
            self._epochs[tp] += 1
            for mapping in (
                self._inflight,
                self._gap,
                self._acked,
                self._acked_index,
                self._read_offset,
                self._committed_offset,
            ):
                mapping.pop(tp, None)

    @Service.transitions_to("PARTITIONS_REVOKED")  # type: ignore[untyped-decorator]
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what was delivered, commit it, and only then forget the revoked partitions."""
        if self._active_partitions is not None:
            self._active_partitions.difference_update(revoked)
        self._paused_partitions.difference_update(revoked)
        await self._on_partitions_revoked(revoked)  # the app stops the flow, waits until empty and commits
        self._forget(revoked)

    # ---- positions ----------------------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Seek every assigned partition to its start position; runs just before the flow resumes.

        An error of the position source stops the worker: without a position nothing may be read.
        """
        assigned = set(self.assignment())
        self._forget(assigned)
        transport: Any = self.transport
        wanted: dict[TP, int] = {}
        try:
            if transport.position_source is not None:
                folded = {tp: self._epochs[tp] for tp in assigned if tp.topic in transport.batch_topics}
                wanted.update(await transport.position_source(folded))
            wanted.update(await self._thread.group_positions(assigned - wanted.keys()))
            await self._seek_all(wanted)
        except Exception as error:
            await self.crash(error)
            raise

    async def rewind(self, tp: TP, offset: int) -> int:
        """Read ``tp`` from ``offset`` on, dropping what was read ahead; returns the epoch that begins.

        The batch being processed must be acknowledged by its agent as usual; that has no effect on the new epoch.
        """
        self._forget([tp])
        await self._seek_all({tp: offset})
        return self._epochs[tp]

    async def _seek_all(self, positions: Mapping[TP, int]) -> None:
        if not positions:
            return
        await self._thread.seek_epochs({tp: (offset, self._epochs[tp]) for tp, offset in positions.items()})
        for tp, offset in positions.items():
            self._read_offset[tp] = offset
            self._committed_offset[tp] = None
