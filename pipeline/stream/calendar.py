"""Announced events on Kafka (``inference.calendar.v1``, compacted): one record per event, keyed by its id.

A record without a value takes the event back. The topic is the truth: whoever starts reads it from its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from pipeline.errors import CodecError, ServerUnavailable
from pipeline.forecast.calendar import CalendarRecord, parse_record, to_fields
from pipeline.forecast.known_calendar import KEEP_SECONDS, CalendarChange, KnownCalendar
from pipeline.settings import KafkaSettings, Settings
from pipeline.stream.app import new_producer, servers

__all__ = ["CalendarBook", "CalendarReader", "announce", "decode_record", "read_calendar"]

_log = logging.getLogger(__name__)

#: More events than this are not remembered: those that ended a week ago go, further ones are refused and counted.
MAX_EVENTS = 10_000
_MAX_BYTES = 65_536
_RETRY_SECONDS = 5.0
#: How long a controller waits at its start for the topic to be read: without it, it would begin without the events.
_CATCH_UP_SECONDS = 15.0


def decode_record(value: bytes) -> CalendarRecord:
    """Read the value of one record of the topic.

    Raises:
        CodecError: it is no calendar record that can be believed; the text says why.
    """
    if len(value) > _MAX_BYTES:
        raise CodecError(f"a calendar record of {len(value)} bytes; at most {_MAX_BYTES} are read")
    try:
        raw = msgspec.json.decode(value)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(raw, dict):
        raise CodecError("a calendar record must be a JSON object")
    try:
        return parse_record(raw)
    except ValueError as error:
        raise CodecError(str(error)[:300]) from error


class CalendarBook:
    """What the topic says now. Written by the reader, read by the thread that closes windows.

    ``complete`` is set once the topic has been read to its end: from then on an event that is not in here was taken
    back. With ``now`` (epoch seconds) events that ended a week before it make room for new ones.
    """

    def __init__(self, max_events: int = MAX_EVENTS, now: Callable[[], float] | None = None) -> None:
        self._max_events = max_events
        self._now = now
        self._records: dict[str, CalendarRecord] = {}
        self._lock = threading.Lock()
        self.complete = False
        self.rejected = 0

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Note one record of the topic.

        Raises:
            CodecError: it cannot be believed, or there are too many events; it was counted in ``rejected``.
        """
        try:
            self._take(key, value)
        except CodecError:
            self.rejected += 1
            raise

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        if value is None:
            with self._lock:
                self._records.pop((key or b"").decode("utf-8", "replace"), None)
            return
        record = decode_record(value)
        if key is not None and key != record.id.encode("utf-8", "replace"):
            raise CodecError(f"the key of a calendar record must be its id, {record.id[:64]!r}")
        with self._lock:
            if record.id not in self._records and len(self._records) >= self._max_events:
                self._forget_over()
            if record.id not in self._records and len(self._records) >= self._max_events:
                raise CodecError(f"more than {self._max_events} events; {record.id[:64]!r} is not remembered")
            self._records[record.id] = record

    def _forget_over(self) -> None:
        if self._now is not None:
            before = self._now() - KEEP_SECONDS
            self._records = {name: record for name, record in self._records.items() if record.ends_at > before}

    def empty(self) -> CalendarBook:
        """Return a book of the same limits without events."""
        return CalendarBook(self._max_events, self._now)

    def replace(self, other: CalendarBook) -> None:
        """Become what ``other`` says."""
        records = other.records()
        with self._lock:
            self._records = records
            self.complete = other.complete
        self.rejected += other.rejected

    def records(self) -> dict[str, CalendarRecord]:
        """The events by id (a copy)."""
        with self._lock:
            return dict(self._records)

    def changes(self, known: KnownCalendar, as_of: float) -> tuple[CalendarChange, ...]:
        """What the step at ``as_of`` (epoch seconds) has to be told, given what the engine knows."""
        with self._lock:
            return known.changes(self._records, as_of, complete=self.complete)


class CalendarReader:
    """Keeps a ``CalendarBook`` up to date from the topic, outside every consumer group; a resource of the controller.

    Events are an aid: when the topic cannot be read, that is logged, tried again, and the pipeline goes on with the
    events that it knows.
    """

    def __init__(self, settings: Settings, book: CalendarBook) -> None:
        self._kafka = settings.kafka
        self._book = book
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read, and wait until the topic has been read to its end (or a while)."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._run(ready))
        try:
            await asyncio.wait_for(ready.wait(), _CATCH_UP_SECONDS)
        except TimeoutError:
            _log.warning("%s cannot be read yet; going on without it", self._kafka.calendar_topic)

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, ready: asyncio.Event) -> None:
        while True:
            try:
                await self._read(ready)
            except (KafkaError, OSError) as error:
                _log.warning("%s cannot be read: %r", self._kafka.calendar_topic, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, ready: asyncio.Event) -> None:
        async with contextlib.aclosing(_records(self._kafka)) as records:
            # A book of its own until the end is reached: after a pause the topic may have been compacted.
            fresh = self._book.empty()
            async for record in records:
                if record is None:
                    fresh.complete = True
                    self._book.replace(fresh)
                    ready.set()
                    continue
                try:
                    (self._book if fresh.complete else fresh).take(record.key, record.value)
                except CodecError as error:
                    _log.warning("%s offset %d: %s", self._kafka.calendar_topic, record.offset, error)


async def _records(kafka: KafkaSettings) -> Any:
    """The records of the topic from its beginning, without end; None once when all that were there have come."""
    consumer: Any = AIOKafkaConsumer(
        kafka.calendar_topic,
        bootstrap_servers=servers(kafka.bootstrap),
        client_id="tokentide-calendar",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        partitions = consumer.assignment()
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        caught_up = False
        while True:
            if not caught_up:
                # The embedded broker lists an end that is too low; what a fetch says about it is right.
                reached = [
                    ends[tp] <= begins[tp] or await consumer.position(tp) >= max(ends[tp], consumer.highwater(tp) or 0)
                    for tp in partitions
                ]
                if all(reached):
                    caught_up = True
                    yield None
            for found in (await consumer.getmany(timeout_ms=500)).values():
                for record in found:
                    yield record
    finally:
        await consumer.stop()


async def read_calendar(settings: Settings) -> CalendarBook:
    """What the topic says now.

    Raises:
        ServerUnavailable: it cannot be read, or does not end within a quarter of a minute.
    """
    book = CalendarBook()

    async def read() -> None:
        async with contextlib.aclosing(_records(settings.kafka)) as records:
            async for record in records:
                if record is None:
                    book.complete = True
                    return
                with contextlib.suppress(CodecError):
                    book.take(record.key, record.value)

    try:
        await asyncio.wait_for(read(), _CATCH_UP_SECONDS)
    except (KafkaError, OSError, TimeoutError) as error:
        raise ServerUnavailable(f"{settings.kafka.calendar_topic} cannot be read: {error!r}") from error
    return book


async def announce(settings: Settings, changes: Iterable[CalendarChange]) -> int:
    """Write events (and withdrawals) to the topic and wait until the broker has them; returns how many.

    Raises:
        ServerUnavailable: the broker refused or did not answer.
    """
    producer: Any = new_producer(settings, "calendar")
    topic = settings.kafka.calendar_topic
    try:
        await producer.start()
        try:
            pending = []
            for change in changes:
                value = None if change.removed else msgspec.json.encode(to_fields(change.record))
                pending.append(await producer.send(topic, value, key=change.record.id.encode("utf-8", "replace")))
            await asyncio.gather(*pending)
        finally:
            await producer.stop()
    except (KafkaError, OSError) as error:
        raise ServerUnavailable(f"{topic} cannot be written: {error!r}") from error
    return len(pending)
