"""One source partition's aggregator: fetched records in, one delta and the dead letters out. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.events.batch_decoder import Notes, decode_batch
from pipeline.events.codecs.base import Codec, Headers
from pipeline.events.columns import EventColumns
from pipeline.events.convert import TOKENS
from pipeline.events.validation import EventLimits, impossible_timestamps, reference_times
from pipeline.windows.aliases import PoolAliases
from pipeline.windows.dedupe import Deduplicator, identities, reused_ids
from pipeline.windows.fold import empty_histograms, empty_rows, fold
from pipeline.windows.partition_clock import PartitionClock
from pipeline.windows.service import Objectives
from pipeline.windows.types import DeadLetterRef, Delta

__all__ = ["RECORD_TIMESTAMP", "DeadLetter", "PartitionAggregator"]

#: What a record's own timestamp is called among the fields that were unknown though they were there.
RECORD_TIMESTAMP = "record_timestamp"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record: its offset, why (``RejectReason``, detail), and its value as fetched."""

    offset: int
    reason: str
    detail: str
    value: bytes | None


class PartitionAggregator:
    """Folds one partition's records, in offset order, into deltas. Make a new one at each assignment."""

    def __init__(
        self,
        topic: str,
        partition: int,
        producer_id: str,
        limits: EventLimits,
        dedupe_horizon_records: int,
        dimensions: Sequence[str] = (),
        codec: Codec | None = None,
        aliases: PoolAliases | None = None,
        objectives: Objectives | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.producer_id = producer_id
        self._limits = limits
        self._dimensions = tuple(dimensions)
        self._codec = codec
        self._aliases = aliases or PoolAliases({})
        self._objectives = objectives
        self._dedupe = Deduplicator(dedupe_horizon_records)
        self._clock = PartitionClock()

    def fold(
        self,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        first_offset: int,
        next_offset: int,
        now: float,
        emit_from: int | None = None,
        lost: int = 0,
        sizes: Sequence[int] | None = None,
        headers: Mapping[int, Headers] | None = None,
        *,
        caught_up: bool = False,
    ) -> tuple[Delta | None, list[DeadLetter]]:
        """Fold the records of [first_offset, next_offset); offsets may have holes (compaction, control records).

        Args:
            values: the records' values, ascending in offset.
            offsets: their offsets.
            timestamps_ms: their timestamps in epoch milliseconds (negative: none; what cannot be that is ignored).
            first_offset: the position before this batch.
            next_offset: the position after it.
            now: epoch seconds.
            emit_from: records below it only refill the duplicate memory.
            lost: offsets before ``first_offset`` that the broker no longer had; the delta covers them too.
            sizes: bytes of each value where the caller knows them.
            headers: headers of the records that have any, by their place in ``values``.
            caught_up: whether nothing lay behind the batch when it was fetched; then its newest event says how far the
                partition has come, else what most of its servers have reached (``pipeline.windows.partition_clock``).

        Returns:
            The delta of [max(first_offset, emit_from) − lost, next_offset − 1] with ``base_delta_offset`` −1 for the
            caller to set (None when the whole batch lies below ``emit_from``), and the refused records in that range.
        """
        start = first_offset if emit_from is None else max(first_offset, emit_from)
        columns, rejections, notes = decode_batch(
            values, timestamps_ms, now, self._limits, self._dimensions, sizes, self._codec, headers
        )
        contiguous = isinstance(offsets, range)
        at = np.arange(offsets[0], offsets[-1] + 1) if contiguous and len(offsets) else np.asarray(offsets, np.int64)
        event_at = at[columns.index]
        references = reference_times(np.asarray(timestamps_ms, np.int64)[columns.index], now)
        self._clock.observe(columns, references)
        events = identities(columns)
        first = self._dedupe.first_seen(events, event_at)
        if start >= next_offset:
            return None, []
        emitted = event_at >= start
        dead = [
            DeadLetter(offsets[i], reason, detail, values[i]) for i, reason, detail in rejections if offsets[i] >= start
        ]
        counted = columns.take(first & emitted)
        keys, rows, histograms = fold(self._aliases.folded(counted), self._objectives)
        newest = np.minimum(columns.completed_at, references)[emitted]
        records = int(np.count_nonzero(at >= start))
        notes = _from(notes, offsets, start)
        delta = Delta(
            topic=self.topic,
            partition=self.partition,
            from_offset=start - lost,
            through_offset=next_offset - 1,
            base_delta_offset=-1,
            producer_id=self.producer_id,
            records=records,
            events=len(counted),
            duplicates=int(np.count_nonzero(emitted)) - len(counted),
            lost=lost,
            max_event_at=self._clock.reached(float(newest.max()), caught_up=caught_up) if len(newest) else None,
            idle=False,
            dead_letters=[DeadLetterRef(d.offset, d.reason, d.detail) for d in dead],
            keys=keys,
            rows=rows,
            histograms=histograms,
            event_records=records - len(dead) - len(notes.ignored),
            ignored=len(notes.ignored),
            ignored_parts=sum(parts for _, parts in notes.ignored_parts),
            refused_parts=_counts(reason for _, reason in notes.refused_parts),
            unknown=_unknown(columns, emitted, notes, impossible_timestamps(timestamps_ms[len(at) - records :])),
            reused_ids=reused_ids(columns.ids, events) if start <= first_offset else 0,
            codecs=_counts(name for _, name in notes.codecs),
            clock_offsets=self._clock.offsets(),
        )
        return delta, dead

    def heartbeat(self, position: int) -> Delta:
        """Return the delta that says: nothing beyond ``position``, this partition is caught up and idle.

        Its event time is that of the newest event, whether or not the batch of that knew that it was the last one.
        """
        return Delta(
            topic=self.topic,
            partition=self.partition,
            from_offset=position,
            through_offset=position - 1,
            base_delta_offset=-1,
            producer_id=self.producer_id,
            records=0,
            events=0,
            duplicates=0,
            lost=0,
            max_event_at=self._clock.newest,
            idle=True,
            dead_letters=[],
            keys=[],
            rows=empty_rows(),
            histograms=empty_histograms(),
        )


def _from(notes: Notes, offsets: Sequence[int], start: int) -> Notes:
    """The notes on records at offsets from ``start`` on."""
    if not offsets or offsets[0] >= start:
        return notes
    return Notes(
        [i for i in notes.ignored if offsets[i] >= start],
        [note for note in notes.ignored_parts if offsets[note[0]] >= start],
        *(
            [note for note in named if offsets[note[0]] >= start]
            for named in (notes.refused_parts, notes.unknown, notes.codecs)
        ),
    )


def _unknown(
    columns: EventColumns, emitted: NDArray[np.bool_], notes: Notes, impossible_timestamps: int
) -> dict[str, int]:
    """How often a field was unknown though it was there, or, for token counts, is unknown for any reason."""
    counts = Counter(name for _, name in notes.unknown if name not in TOKENS)
    if impossible_timestamps:
        counts[RECORD_TIMESTAMP] = impossible_timestamps
    for name in TOKENS:
        missing = int(np.count_nonzero(emitted & (getattr(columns, name) < 0)))
        if missing:
            counts[name] = missing
    return dict(sorted(counts.items()))


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
