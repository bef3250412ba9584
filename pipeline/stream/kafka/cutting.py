"""Cuts a batch at given offsets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from pipeline.stream.kafka.batch import RecordBatch

__all__ = ["cut"]


def cut(batch: RecordBatch, at: Sequence[int]) -> list[RecordBatch]:
    """Return batches that together cover the same offsets and of which none runs across one of ``at`` (ascending)."""
    inside = [offset for offset in at if batch.first_offset < offset < batch.next_offset]
    if not inside:
        return [batch]
    parts = []
    for first, after in pairwise([batch.first_offset, *inside, batch.next_offset]):
        start, stop = bisect_left(batch.offsets, first), bisect_left(batch.offsets, after)
        part = RecordBatch(batch.tp, first)
        part.next_offset = after
        part.offsets, part.timestamps = batch.offsets[start:stop], batch.timestamps[start:stop]
        part.keys, part.values = batch.keys[start:stop], batch.values[start:stop]
        part.headers = {i - start: headers for i, headers in batch.headers.items() if start <= i < stop}
        part.generation_id, part.epoch, part.unreadable = batch.generation_id, batch.epoch, batch.unreadable
        part.caught_up = batch.caught_up and after == batch.next_offset
        parts.append(part)
    return parts
