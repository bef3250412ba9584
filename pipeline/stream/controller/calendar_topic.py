"""Announced events on Kafka (``inference.calendar.v1``, compacted): one record per event, keyed by its id.

A record without a value takes the event back. The topic is the truth: whoever starts reads it from its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from pipeline.alerts.feedback import feedback_in, is_feedback
from pipeline.config.settings import Settings
from pipeline.errors import CodecError, ServerUnavailable
from pipeline.forecast.calendar.effects import CalendarRecord, parse_record, to_fields
from pipeline.forecast.calendar.known import KEEP_SECONDS, CalendarChange, KnownCalendar
from pipeline.kafka.producer import new_producer
from pipeline.kafka.security import explain
from pipeline.stream.topic_reader import CATCH_UP_SECONDS, TopicReader, records_of

__all__ = ["CalendarBook", "CalendarReader", "announce", "announce_one", "decode_record", "read_calendar"]

_log = logging.getLogger(__name__)

#: More events than this are not remembered: those that ended a week ago go, further ones are refused and counted.
MAX_EVENTS = 10_000
_MAX_BYTES = 65_536


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
    back. With ``now`` (epoch seconds) events that ended a week before it make room for new ones, and marks
    of alerts that were made after it count at once.
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
            at_once = self._of_another_clock(as_of)
            return known.changes(self._records, as_of, complete=self.complete, at_once=at_once)

    def _of_another_clock(self, as_of: float) -> set[str]:
        """Marks of alerts that were raised before ``as_of``, made at a time that has not come here.

        Nobody marks an alert before it is raised, so their time is that of another clock: a demo or a replay lives in
        a time of its own, and those who mark from outside do not know it. Such a mark is made now.
        """
        now = math.inf if self._now is None else self._now()
        found = set()
        for name, record in self._records.items():
            if record.announced_at is not None and record.announced_at > now and is_feedback(record):
                mark = feedback_in(record)
                if mark is not None and mark.raised_at < as_of:
                    found.add(name)
        return found


class CalendarReader(TopicReader):
    """Keeps a ``CalendarBook`` up to date from the topic."""

    def __init__(self, settings: Settings, book: CalendarBook) -> None:
        super().__init__(settings.kafka, (settings.kafka.calendar_topic,), "tokentide-calendar")
        self._book = book
        self._fresh = book.empty()

    def _begin(self) -> None:
        # A book of its own until the end is reached: after a pause the topic may have been compacted.
        self._fresh = self._book.empty()

    def _take(self, record: Any) -> None:
        try:
            (self._book if self._fresh.complete else self._fresh).take(record.key, record.value)
        except CodecError as error:
            _log.warning("%s offset %d: %s", record.topic, record.offset, error)

    def _caught_up(self) -> None:
        self._fresh.complete = True
        self._book.replace(self._fresh)


async def read_calendar(settings: Settings) -> CalendarBook:
    """What the topic says now.

    Raises:
        ServerUnavailable: it cannot be read, or does not end within a quarter of a minute.
    """
    book = CalendarBook()

    async def read() -> None:
        topics = (settings.kafka.calendar_topic,)
        async with contextlib.aclosing(records_of(settings.kafka, topics, "tokentide-calendar")) as records:
            async for record in records:
                if record is None:
                    book.complete = True
                    return
                with contextlib.suppress(CodecError):
                    book.take(record.key, record.value)

    try:
        await asyncio.wait_for(read(), CATCH_UP_SECONDS)
    except (KafkaError, OSError, TimeoutError) as error:
        raise ServerUnavailable(
            f"{settings.kafka.calendar_topic} cannot be read: {explain(error, settings.kafka)}"
        ) from error
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
        raise ServerUnavailable(f"{topic} cannot be written: {explain(error, settings.kafka)}") from error
    return len(pending)


async def announce_one(settings: Settings, record: CalendarRecord) -> None:
    """Write one record; see ``announce``."""
    await announce(settings, [CalendarChange(record)])
