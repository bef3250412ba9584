"""Wire batches that cannot be read: each of their records becomes a dead letter, and the partition goes on."""

from __future__ import annotations

from typing import Any

from pipeline.events.request_event import RejectReason
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.windows.partition_folder import DeadLetter
from pipeline.windows.types import DeadLetterRef, Delta

__all__ = ["UnreadableRow", "add_unreadable", "name_unreadable"]

#: A wire batch that claims more records than this (its header may be what is broken) has one dead letter for the rest.
MOST_LETTERS = 10_000


class UnreadableRow:
    """Stands in a batch for a record whose bytes cannot be read; like a record without a key and a value."""

    __slots__ = ("offset",)

    timestamp = -1
    key = value = None
    headers = ()

    def __init__(self, offset: int) -> None:
        self.offset = offset


def add_unreadable(batch: RecordBatch, start: int, end: int, error: BaseException) -> None:
    """Append the records of [start, end), of which nothing but the offsets is known."""
    why = f"{type(error).__name__}: {error}"[:200]
    stop = min(end, start + MOST_LETTERS)
    batch.extend([UnreadableRow(offset) for offset in range(start, stop)])
    batch.unreadable.update(dict.fromkeys(range(start, stop), f"batch of offsets {start}..{end - 1}: {why}"))


def name_unreadable(batch: RecordBatch, delta: Delta, letters: list[DeadLetter]) -> list[DeadLetter]:
    """Give the dead letters of unreadable records their reason, in the delta too; they were refused as empty."""
    named: dict[int, Any] = batch.unreadable
    letters = [
        DeadLetter(letter.offset, RejectReason.UNREADABLE, named[letter.offset], None)
        if letter.offset in named
        else letter
        for letter in letters
    ]
    delta.dead_letters = [DeadLetterRef(letter.offset, letter.reason, letter.detail) for letter in letters]
    return letters
