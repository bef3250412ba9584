"""One source partition's aggregator: fetched records in, one delta and the dead letters out. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.events.batch import decode_batch
from pipeline.events.check import EventLimits
from pipeline.windows.dedupe import Deduplicator
from pipeline.windows.fold import empty_histograms, empty_rows, fold
from pipeline.windows.model import DeadLetterRef, Delta

__all__ = ["DeadLetter", "PartitionAggregator"]


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
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.producer_id = producer_id
        self._limits = limits
        self._dimensions = tuple(dimensions)
        self._dedupe = Deduplicator(dedupe_horizon_records)

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
    ) -> tuple[Delta | None, list[DeadLetter]]:
        """Fold the records of [first_offset, next_offset); offsets may have holes (compaction, control records).

        Args:
            values: the records' values, ascending in offset.
            offsets: their offsets.
            timestamps_ms: their timestamps in epoch milliseconds (negative: none).
            first_offset: the position before this batch.
            next_offset: the position after it.
            now: epoch seconds.
            emit_from: records below it only refill the duplicate memory.
            lost: offsets before ``first_offset`` that the broker no longer had; the delta covers them too.
            sizes: bytes of each value where the caller knows them.

        Returns:
            The delta of [max(first_offset, emit_from) − lost, next_offset − 1] with ``base_delta_offset`` −1 for the
            caller to set (None when the whole batch lies below ``emit_from``), and the refused records in that range.
        """
        start = first_offset if emit_from is None else max(first_offset, emit_from)
        columns, rejections = decode_batch(values, timestamps_ms, now, self._limits, self._dimensions, sizes)
        contiguous = isinstance(offsets, range)
        at = np.arange(offsets[0], offsets[-1] + 1) if contiguous and len(offsets) else np.asarray(offsets, np.int64)
        event_at = at[columns.index]
        first = self._dedupe.first_seen(columns.ids, event_at)
        if start >= next_offset:
            return None, []
        emitted = event_at >= start
        dead = [
            DeadLetter(offsets[i], reason, detail, values[i]) for i, reason, detail in rejections if offsets[i] >= start
        ]
        counted = columns.take(first & emitted)
        keys, rows, histograms = fold(counted)
        newest = columns.completed_at[emitted]
        delta = Delta(
            topic=self.topic,
            partition=self.partition,
            from_offset=start - lost,
            through_offset=next_offset - 1,
            base_delta_offset=-1,
            producer_id=self.producer_id,
            records=int(np.count_nonzero(at >= start)),
            events=len(counted),
            duplicates=int(np.count_nonzero(emitted)) - len(counted),
            lost=lost,
            max_event_at=float(newest.max()) if len(newest) else None,
            idle=False,
            dead_letters=[DeadLetterRef(d.offset, d.reason, d.detail) for d in dead],
            keys=keys,
            rows=rows,
            histograms=histograms,
        )
        return delta, dead

    def heartbeat(self, position: int) -> Delta:
        """Return the delta that says: nothing beyond ``position``, this partition is caught up and idle."""
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
            max_event_at=None,
            idle=True,
            dead_letters=[],
            keys=[],
            rows=empty_rows(),
            histograms=empty_histograms(),
        )
