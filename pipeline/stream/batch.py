"""The unit that travels through Faust here: consecutive records of one partition, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import faust
from faust.types import TP

__all__ = ["BatchSchema", "RecordBatch", "batch_topic"]

#: Record headers as aiokafka gives them: a sequence of (name, value).
Headers = Sequence[tuple[str, bytes | None]]


class RecordBatch:
    """Columns of the records of one partition at offsets [first_offset, next_offset).

    ``offsets`` ascend but may have holes (compaction, transaction markers, aborted transactions), and a batch may hold
    no record at all; continuity is therefore judged by ``first_offset`` and ``next_offset``, never by the length.
    ``timestamps`` are epoch milliseconds as the log has them. ``headers`` is sparse: index in the batch → headers.
    ``epoch`` numbers the seek after which the batch was read: after another seek it is out of date and must be dropped.
    """

    __slots__ = (
        "epoch",
        "first_offset",
        "generation_id",
        "headers",
        "keys",
        "next_offset",
        "offsets",
        "timestamps",
        "tp",
        "values",
    )

    def __init__(self, tp: TP, first_offset: int) -> None:
        self.tp = tp
        self.first_offset = first_offset
        self.next_offset = first_offset
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: dict[int, Headers] = {}
        self.generation_id: int | None = None
        self.epoch = 0

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

    def extend(self, records: Iterable[Any]) -> None:
        """Append records: objects with ``offset``, ``timestamp``, ``key``, ``value`` and ``headers``."""
        rows = list(records)
        base = len(self.offsets)
        self.offsets += [row.offset for row in rows]
        self.timestamps += [row.timestamp for row in rows]
        self.keys += [row.key for row in rows]
        self.values += [row.value for row in rows]
        for index, row in enumerate(rows, base):
            if row.headers:
                self.headers[index] = row.headers

    def split(self, max_records: int) -> list[RecordBatch]:
        """Cut into equal batches that together cover the same offsets, when it is much longer than ``max_records``.

        Up to a quarter more is let pass: batches end with a wire batch, and tiny remainders would cost a delta each.
        """
        if len(self) <= max_records + max_records // 4:
            return [self]
        count = -(-len(self) // max_records)
        cuts = [len(self) * i // count for i in range(count + 1)]
        parts = []
        for start, stop in pairwise(cuts):
            part = RecordBatch(self.tp, self.first_offset if start == 0 else self.offsets[start])
            part.next_offset = self.next_offset if stop == len(self) else self.offsets[stop]
            for column in ("offsets", "timestamps", "keys", "values"):
                setattr(part, column, getattr(self, column)[start:stop])
            part.headers = {index - start: value for index, value in self.headers.items() if start <= index < stop}
            part.generation_id, part.epoch = self.generation_id, self.epoch
            parts.append(part)
        return parts


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands a batch to the agent as it is: no codec."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        """Return the message's key (a batch has none)."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        """Return the batch."""
        return message.value


def batch_topic(app: Any, name: str, *, queued_batches: int) -> Any:
    """Declare a topic whose agent receives ``RecordBatch``.

    At most ``queued_batches`` wait for the agent before the partitions are paused, so memory is bounded by
    ``queued_batches`` times the size of a fetch.
    """
    app.transport.batch_topics.add(name)
    topic = app.topic(name, schema=BatchSchema())
    # App.topic() of faust-streaming 0.15.3 accepts maxsize and drops it; clones of the topic keep the attribute.
    topic.maxsize = queued_batches
    return topic
