"""The unit that travels through Faust here: consecutive records of one partition, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import faust
import numpy as np
from faust.types import TP
from numpy.typing import NDArray

from pipeline.events.sliced_values import SlicedValues

__all__ = ["BatchSchema", "RecordBatch", "batch_topic"]

_TIMESTAMP = attrgetter("timestamp")

Ints = NDArray[np.int64]
#: Record headers as aiokafka gives them: a sequence of (name, value).
Headers = Sequence[tuple[str, bytes | None]]


class _Row(NamedTuple):
    """A record that was laid out in columns, as ``extend`` takes it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class RecordBatch:
    """Columns of the records of one partition at offsets [first_offset, next_offset).

    ``offsets`` ascend but may have holes (compaction, transaction markers, aborted transactions), and a batch may hold
    no record at all; continuity is therefore judged by ``first_offset`` and ``next_offset``, never by the length.
    ``timestamps`` are epoch milliseconds as the log has them, ``sizes`` the bytes of each value (0 where there is
    none). ``headers`` is sparse: index in the batch → headers.
    ``offsets``, ``keys`` and ``headers`` are made when first asked for: most batches are used for their values only.
    ``values`` are a list, or lie in the buffer that they were fetched in (``lay``) and are cut out when asked for.
    ``value_bytes`` is the size of all values together. ``epoch`` numbers the seek after which the batch was read: after
    another seek it is out of date and must be dropped. ``caught_up``: as far as is known, nothing lay behind it when it
    was delivered. ``unreadable``: why the record at an offset could not be read; its value is None, and the parts of a
    batch share the mapping.
    """

    __slots__ = (
        "_headers",
        "_key_bounds",
        "_keys",
        "_offsets",
        "_rows",
        "_sizes",
        "caught_up",
        "epoch",
        "first_offset",
        "generation_id",
        "next_offset",
        "timestamps",
        "tp",
        "unreadable",
        "value_bytes",
        "values",
    )

    def __init__(self, tp: TP, first_offset: int) -> None:
        self.tp = tp
        self.first_offset = first_offset
        self.next_offset = first_offset
        self.timestamps: Sequence[int] = array("q")
        self.values: Sequence[bytes | None] = []
        self.value_bytes = 0
        self.generation_id: int | None = None
        self.epoch = 0
        self.caught_up = False
        self.unreadable: dict[int, str] = {}
        self._rows: list[Any] = []
        self._key_bounds: tuple[Ints, Ints] | None = None
        self._sizes: array[int] | None = None
        self._offsets: Sequence[int] | None = None
        self._keys: list[bytes | None] | None = None
        self._headers: dict[int, Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        where = f"{self.tp.topic}[{self.tp.partition}]"
        return f"<RecordBatch {where} {self.first_offset}..{self.next_offset - 1}, {len(self)} records>"

    @property
    def topic(self) -> str:
        """Topic of the records."""
        return str(self.tp.topic)

    @property
    def partition(self) -> int:
        """Partition of the records."""
        return int(self.tp.partition)

    @property
    def offset(self) -> int:
        """Last offset covered; what Faust acknowledges."""
        return self.next_offset - 1

    @property
    def offsets(self) -> Sequence[int]:
        """Offsets of the records: a ``range`` where they have no holes, else a list."""
        if self._offsets is None:
            rows = self._rows
            if rows and rows[-1].offset - rows[0].offset == len(rows) - 1:
                self._offsets = range(rows[0].offset, rows[0].offset + len(rows))
            else:
                self._offsets = [row.offset for row in rows]
        return self._offsets

    @offsets.setter
    def offsets(self, offsets: Sequence[int]) -> None:
        self._offsets = offsets

    @property
    def sizes(self) -> array[int]:
        """Bytes of each value, as 64-bit numbers."""
        if self._sizes is None:
            self._sizes = _sizes(self.values)
        return self._sizes

    @property
    def keys(self) -> list[bytes | None]:
        """Keys of the records."""
        if self._keys is None and self._key_bounds is not None and isinstance(self.values, SlicedValues):
            data, bounds = self.values.data, zip(*(bound.tolist() for bound in self._key_bounds), strict=True)
            self._keys = [data[start:end] if start <= end else None for start, end in bounds]
        elif self._keys is None:
            self._keys = [row.key for row in self._rows]
        return self._keys

    @keys.setter
    def keys(self, keys: list[bytes | None]) -> None:
        self._keys = keys

    @property
    def headers(self) -> dict[int, Headers]:
        """Headers of the records that have any, by their index."""
        if self._headers is None:
            self._headers = {index: row.headers for index, row in enumerate(self._rows) if row.headers}
        return self._headers

    @headers.setter
    def headers(self, headers: dict[int, Headers]) -> None:
        self._headers = headers

    @property
    def headers_at(self) -> Mapping[int, Headers]:
        """The headers at an index (none: empty), for a few look-ups: no record is looked at before."""
        return self.headers if self._headers is not None or not self._rows else _RowHeaders(self._rows)

    def extend(self, records: Iterable[Any]) -> None:
        """Append records: objects with ``offset``, ``timestamp``, ``key``, ``value`` and ``headers``."""
        rows = records if isinstance(records, list) else list(records)
        if isinstance(self.values, SlicedValues):
            laid = list(map(_Row, self.offsets, self.timestamps, self.keys, self.values))
            self.values, self._key_bounds, self.value_bytes = [], None, 0
            rows = laid + rows
        values: list[bytes | None] = [row.value for row in rows]
        sizes = _sizes(values)
        timestamps = _timestamps(rows)
        self.value_bytes += sum(sizes)
        if self._rows:
            self.values = [*self.values, *values]
            self._sizes = self.sizes + sizes
            self.timestamps = array("q", self.timestamps) + timestamps
            self._rows += rows
        else:
            self.values, self._sizes, self.timestamps, self._rows = values, sizes, timestamps, rows
        self._offsets = self._keys = self._headers = None

    def lay(self, values: SlicedValues, keys: tuple[Ints, Ints], offsets: Ints, timestamps: Ints) -> None:
        """Fill an empty batch with records without headers; ``keys``: where they start and end in the data of
        ``values`` (the end lies before the start: it has none)."""
        self.values, self._key_bounds = values, keys
        self.timestamps = array("q", timestamps.tobytes())
        sizes = values.ends - values.starts
        self._sizes = array("q", sizes.tobytes())
        self.value_bytes = int(sizes.sum())
        first, last = int(offsets[0]), int(offsets[-1])
        self._offsets = range(first, last + 1) if last - first == len(offsets) - 1 else offsets.tolist()
        self._keys, self._headers = None, {}

    def release(self) -> None:
        """Let go of the records: whoever still holds the batch (Faust does, in cycles) needs only its offsets."""
        self.values, self.timestamps, self._rows, self._key_bounds = [], array("q"), [], None
        self._sizes, self._offsets, self._keys, self._headers = array("q"), range(0), [], {}

    def split(self, max_records: int, max_bytes: int | None = None) -> list[RecordBatch]:
        """Cut into batches of at most ``max_bytes`` of values (or of one record) that together cover the same offsets;
        those of more than ``max_records`` are cut into equal ones.

        Up to a quarter more records are let pass: batches end with a wire batch, and tiny remainders would cost a delta
        each.
        """
        cuts = [0]
        if max_bytes is not None and self.value_bytes > max_bytes:
            held = 0
            for i, size in enumerate(self.sizes):
                if held and held + size > max_bytes:
                    cuts.append(i)
                    held = 0
                held += size
        cuts.append(len(self))
        if len(cuts) == 2 and len(self) <= max_records + max_records // 4:
            return [self]
        finer = []
        for start, stop in pairwise(cuts):
            count = -(-(stop - start) // max_records) if stop - start > max_records + max_records // 4 else 1
            finer += [start + (stop - start) * i // count for i in range(count)]
        return [self._part(start, stop) for start, stop in pairwise([*finer, len(self)])]

    def _part(self, start: int, stop: int) -> RecordBatch:
        part = RecordBatch(self.tp, self.first_offset if start == 0 else self.offsets[start])
        part.next_offset = self.next_offset if stop == len(self) else self.offsets[stop]
        part.generation_id, part.epoch, part.unreadable = self.generation_id, self.epoch, self.unreadable
        part.values, part.timestamps = self.values[start:stop], self.timestamps[start:stop]
        part.caught_up = self.caught_up and stop == len(self)
        part._sizes = self.sizes[start:stop]
        part.value_bytes = sum(part.sizes)
        part._rows = self._rows[start:stop]
        if self._key_bounds is not None:
            part._key_bounds = self._key_bounds[0][start:stop], self._key_bounds[1][start:stop]
        part.offsets = self.offsets[start:stop]
        if self._keys is not None:
            part.keys = self._keys[start:stop]
        if self._headers is not None:
            part.headers = {i - start: headers for i, headers in self._headers.items() if start <= i < stop}
        return part


class _RowHeaders(Mapping[int, Headers]):
    """The headers of each of some records, by index."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __getitem__(self, index: int) -> Headers:
        headers: Headers = self._rows[index].headers
        return headers

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._rows)))

    def __len__(self) -> int:
        return len(self._rows)


def _timestamps(rows: Sequence[Any]) -> array[int]:
    try:
        return array("q", map(_TIMESTAMP, rows))
    except TypeError:  # records of format 0 have none, for which later formats write -1
        return array("q", [-1 if row.timestamp is None else row.timestamp for row in rows])


def _sizes(values: Sequence[bytes | None]) -> array[int]:
    try:
        return array("q", map(len, values))  # type: ignore[arg-type]
    except TypeError:  # at the first None
        return array("q", [len(value or b"") for value in values])


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands a batch to the agent as it is: no codec."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        """Return the message's key (a batch has none)."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        """Return the batch."""
        return message.value


def batch_topic(app: Any, *names: str, queued_batches: int) -> Any:
    """Declare topics whose agent receives ``RecordBatch``.

    At most ``queued_batches`` wait for the agent before the partitions are paused, so memory is bounded by
    ``queued_batches`` times ``Transport.max_batch_bytes``, plus one fetch of each partition that aiokafka holds ready.
    """
    app.transport.batch_topics.update(names)
    topic = app.topic(*names, schema=BatchSchema())
    # App.topic() of faust-streaming 0.15.3 accepts maxsize and drops it; clones of the topic keep the attribute.
    topic.maxsize = queued_batches
    return topic
