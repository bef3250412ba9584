"""Wire batches of one fetch answer whose records are laid into a batch together, without an object for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.events.sliced_values import SlicedValues
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.stream.kafka.framing import Bounds, bounds_of, frames_of
from pipeline.stream.kafka.wire_bytes import KeptRecords

__all__ = ["LaidWires"]

_LOG_APPEND_TIME = 1


class LaidWires:
    """``wires`` are those that were taken, each with the first offset of it that counts."""

    def __init__(self, records: KeptRecords) -> None:
        self._records = records
        self._bounds: list[Bounds] = []
        self.wires: list[tuple[Any, int]] = []
        self._count = 0
        self._bytes = self._most_bytes = 0

    def __len__(self) -> int:
        return self._count

    def fits(self, room: float) -> bool:
        """Whether another batch like the largest one would stay within ``room`` bytes, keys and lengths included; a
        batch that is too large would be cut, and what is left over is often too small to be read in columns."""
        whole = len(self._records.data) <= room
        return whole or not self._bytes or self._bytes + self._most_bytes <= room

    def take(self, wire: Any, position: int) -> bool:
        """Take the newest batch of the answer from an offset on; False: it is not of the usual kind."""
        where = self._records.plain_records(wire)
        if where is None:
            return False
        start, end, count = where
        if wire.next_offset != wire.base_offset + count or position >= wire.next_offset:
            return False
        if self.wires and position > wire.base_offset:  # offsets that have been already
            return False
        bounds = bounds_of(self._records.data, start, end, count)
        if bounds is None:
            return False
        self._bounds.append(bounds)
        self.wires.append((wire, position))
        self._count += count - max(0, position - wire.base_offset)
        self._bytes += end - start
        self._most_bytes = max(self._most_bytes, end - start)
        return True

    def lay_in(self, batch: RecordBatch) -> bool:
        """Fill an empty batch with the records of all wires; False: they are not all of the usual kind."""
        counts = np.array([len(bounds.begins) for bounds in self._bounds])
        deltas = np.concatenate([np.arange(count) for count in counts])
        whole = Bounds(
            np.concatenate([bounds.begins for bounds in self._bounds]),
            np.concatenate([bounds.ends for bounds in self._bounds]),
        )
        frames = frames_of(self._records.data, whole, deltas)
        if frames is None:
            return False
        offsets = deltas + np.repeat([wire.base_offset for wire, _ in self.wires], counts)
        stamps = frames.timestamp_deltas + np.repeat([wire.first_timestamp for wire, _ in self.wires], counts)
        appended = [wire.timestamp_type == _LOG_APPEND_TIME for wire, _ in self.wires]
        if any(appended):
            at = np.repeat([wire.max_timestamp for wire, _ in self.wires], counts)
            stamps = np.where(np.repeat(appended, counts), at, stamps)
        keys = frames.key_starts, frames.key_ends
        starts, ends = frames.starts, frames.ends
        position = self.wires[0][1]
        if position > offsets[0]:  # inside the first of them
            keep = slice(int(np.searchsorted(offsets, position)), None)
            keys = keys[0][keep], keys[1][keep]
            starts, ends, offsets, stamps = starts[keep], ends[keep], offsets[keep], stamps[keep]
        batch.lay(SlicedValues(self._records.data, starts, ends), keys, offsets, stamps)
        return True
