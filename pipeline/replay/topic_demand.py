"""Demand from a topic of request events, as far back as the broker keeps it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from pipeline.config.settings import Settings
from pipeline.config.sources import SourceSettings
from pipeline.errors import InputError, ServerUnavailable
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs.base import Codec
from pipeline.events.columns import EventColumns
from pipeline.events.validation import EventLimits
from pipeline.forecast.types import Signal
from pipeline.kafka.partition_reader import log_bounds, partition_reader
from pipeline.kafka.security import admin_client, explain
from pipeline.kafka.topics import described
from pipeline.replay.grid import MAX_WINDOWS, DemandSeries
from pipeline.windows.aliases import PoolAliases

__all__ = ["read_topic"]

_BATCH_RECORDS = 5_000
_FETCH_TIMEOUT_MS = 5_000
#: A request is recorded when it ends: records are read this long beyond the last arrival that is asked for.
_LONGEST_REQUEST_SECONDS = 3_600.0
_SIGNALS = (Signal.REQUESTS, Signal.PREFILL_TOKENS, Signal.DECODE_TOKENS)

Key = tuple[str, str]
Sums = dict[Key, Counter[int]]


async def read_topic(
    settings: Settings,
    topic: str,
    *,
    start: float,
    end: float,
    step_seconds: int,
    signal: Signal = Signal.REQUESTS,
    model: str | None = None,
    pool: str | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> list[DemandSeries]:
    """Read the events of a topic that arrived in [start, end) into one series per pool, ordered by name.

    Records are decoded as ``settings`` configure the topic, else by the format that each has, and aliases of pools are
    folded as in a run. Events count in the window of their arrival; a window without one is zero. An event id that a
    partition holds again counts once. Records that are no events are left out and counted in a notice.

    Args:
        settings: where the broker is, and the formats of its topics.
        topic: its name.
        start: first arrival, epoch seconds; moved back to a whole step.
        end: arrivals before this time, epoch seconds; moved back to a whole step, so that no window is cut.
        step_seconds: width of a window.
        signal: requests, prefill tokens (computed) or decode tokens.
        model: only this model.
        pool: only this pool.
        notice: called with what was left out.

    Raises:
        InputError: there is no such topic, or no event of that in it; the range or the signal is wrong.
        ServerUnavailable: the broker does not answer.
    """
    if signal not in _SIGNALS:
        raise InputError(f"{signal} is not in request events; known: {', '.join(_SIGNALS)}")
    first, last = int(start // step_seconds), int(end // step_seconds)
    if not 0 < last - first <= MAX_WINDOWS:
        raise InputError(
            f"the range holds {max(last - first, 0)} windows of {step_seconds} s; 1 to {MAX_WINDOWS} are read"
        )
    sources = {source.topic: source for source in settings.sources()}
    codec = sources.get(topic, SourceSettings(topic=topic)).reader()
    reading = _Reading(first, last, step_seconds, signal, model, pool, codec, settings.aliases())
    try:
        for partition in await asyncio.to_thread(_partitions, settings, topic):
            await _read_partition(settings, topic, partition, reading)
    except KafkaError as error:
        raise ServerUnavailable(f"{topic} cannot be read: {explain(error, settings.kafka)}") from error
    if reading.rejected:
        notice(f"{topic}: {reading.rejected:,} records are not request events and are left out")
    if reading.unknown:
        notice(f"{topic}: {reading.unknown:,} events without token counts count as zero tokens")
    if not reading.sums:
        raise InputError(f"{topic} holds no event of that between the two times")
    return [
        DemandSeries(
            f"{key[0]}/{key[1]}",
            float(first * step_seconds),
            step_seconds,
            np.array([float(sums[w]) for w in range(first, last)]),
            reading.rows[key],
        )
        for key, sums in sorted(reading.sums.items())
    ]


class _Reading:
    """What has been counted so far, window numbers [first, last)."""

    def __init__(
        self,
        first: int,
        last: int,
        step: int,
        signal: Signal,
        model: str | None,
        pool: str | None,
        codec: Codec,
        aliases: PoolAliases,
    ) -> None:
        self.start, self.end = float(first * step), float(last * step)
        self.sums: Sums = {}
        self.rows: Counter[Key] = Counter()
        self.rejected = 0
        self.unknown = 0
        self._step, self._signal, self._model, self._pool, self._codec = step, signal, model, pool, codec
        self._aliases = aliases

    def add(self, records: Sequence[Any], seen: set[bytes]) -> None:
        """Count one batch of one partition; ``seen`` are the ids that the partition had before."""
        # History is old by nature: an event is judged by its record's time alone.
        decoded = decode_batch(
            [record.value for record in records],
            [record.timestamp for record in records],
            self.end + 1e9,
            EventLimits(max_age_seconds=1e12),
            codec=self._codec,
            headers={i: record.headers for i, record in enumerate(records) if record.headers},
        )
        columns = self._aliases.folded(decoded.columns)
        self.rejected += len(decoded.rejections)
        amounts = self._amounts(columns)
        arrived = columns.arrived_at.tolist()
        for i, at in enumerate(arrived):
            identity = columns.ids[i].tobytes()
            if identity in seen:
                continue
            seen.add(identity)
            key = columns.keys[int(columns.key[i])]
            if not self.start <= at < self.end or self._model not in (None, key.model):
                continue
            if self._pool not in (None, key.pool):
                continue
            place = (key.model, key.pool)
            self.sums.setdefault(place, Counter())[int(at // self._step)] += int(amounts[i])
            self.rows[place] += 1

    def _amounts(self, columns: EventColumns) -> NDArray[np.int64]:
        if self._signal is Signal.REQUESTS:
            return np.ones(len(columns), dtype=np.int64)
        if self._signal is Signal.DECODE_TOKENS:
            amounts = columns.output_tokens
        else:
            amounts = columns.input_tokens - np.maximum(columns.cached_input_tokens, 0)
        self.unknown += int((amounts < 0).sum())
        known: NDArray[np.int64] = np.maximum(amounts, 0)
        return known


def _partitions(settings: Settings, topic: str) -> range:
    with admin_client(settings.kafka, "backtest") as admin:
        counts = described(admin, settings.kafka, [topic])
    if topic not in counts:
        raise InputError(f"there is no topic {topic} on {settings.kafka.bootstrap}")
    return range(counts[topic])


async def _read_partition(settings: Settings, topic: str, partition: int, reading: _Reading) -> None:
    seen: set[bytes] = set()
    async with partition_reader(settings.kafka, topic, partition) as (consumer, tp):
        begin, end = await log_bounds(consumer, tp)
        if end <= begin:
            return
        # A request is recorded after its arrival, so nothing before this offset can have arrived later.
        found = (await consumer.offsets_for_times({tp: int(reading.start * 1000)}))[tp]
        position = max(begin, found.offset if found is not None else begin)
        consumer.seek(tp, position)
        while position < end:
            fetched = await consumer.getmany(tp, timeout_ms=_FETCH_TIMEOUT_MS, max_records=_BATCH_RECORDS)
            records = [record for batch in fetched.values() for record in batch if record.offset < end]
            if not records:
                # The last offsets may hold no record (transaction markers, compaction).
                if await consumer.position(tp) >= end:
                    return
                raise ServerUnavailable(f"{topic}[{partition}]: records {position}..{end - 1} do not arrive")
            reading.add(records, seen)
            position = records[-1].offset + 1
            if records[0].timestamp / 1000.0 > reading.end + _LONGEST_REQUEST_SECONDS:
                return
