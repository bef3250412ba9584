"""aiokafka's fetched wire batches together with the bytes that they lie in, and the CRC of those bytes.

aiokafka's parser keeps the bytes of a fetch answer to itself. ``keep_wire_bytes`` puts a class of the same methods in
its place, which passes everything on and keeps the bytes too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from aiokafka.consumer import fetcher as _fetcher
from aiokafka.record.memory_records import MemoryRecords

__all__ = ["KeptRecords", "keep_wire_bytes", "wire_is_intact"]

#: Format 2: bytes before what the CRC covers, and before the first record; what bits of the attributes name a codec.
_CRC_COVERS_FROM = 21
_RECORDS_FROM = 61
_LOG_OVERHEAD = 12
#: Where all formats say which they are; aiokafka's batches of formats 0 and 1 do not.
_FORMAT_AT = 16
_FORMAT = 2
_CODEC_BITS = 0x07


def _hardware_crc() -> Callable[[Any], int] | None:
    """CRC-32C by the processor's own instruction; None: not installed, or only written in Python there."""
    try:
        module = importlib.import_module("google_crc32c")
    except ImportError:
        return None
    value: Callable[[Any], int] | None = module.value if module.implementation == "c" else None
    return value


_crc32c = _hardware_crc()


class KeptRecords:
    """``MemoryRecords`` of a partition in a fetch answer; ``start`` and ``end`` bound the newest batch in ``data``."""

    __slots__ = ("_records", "data", "end", "start")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.start = self.end = 0
        self._records = MemoryRecords(data)

    def size_in_bytes(self) -> int:
        """Bytes of all batches."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch, as aiokafka gives it."""
        start = self.end
        batch = self._records.next_batch()
        if batch is not None:
            self.start = start
            self.end = start + _LOG_OVERHEAD + int.from_bytes(self.data[start + 8 : start + _LOG_OVERHEAD], "big")
        return batch

    def is_format_2(self) -> bool:
        """Whether the newest batch is of format 2, the one that this module knows."""
        return self.data[self.start + _FORMAT_AT] == _FORMAT

    def plain_records(self, batch: Any) -> tuple[int, int, int] | None:
        """Where the records of the newest batch begin and end, and how many there are; None: not as they were written,
        but of an older format or compressed."""
        if not self.is_format_2() or batch.attributes & _CODEC_BITS:
            return None
        at = self.start + _RECORDS_FROM
        return at, self.end, int.from_bytes(self.data[at - 4 : at], "big")


def wire_is_intact(records: Any, batch: Any) -> bool:
    """Whether the CRC of the newest batch of ``records`` fits its bytes."""
    if _crc32c is None or type(records) is not KeptRecords or not records.is_format_2():
        return bool(batch.validate_crc())
    covered = np.frombuffer(records.data, np.uint8)[records.start + _CRC_COVERS_FROM : records.end]
    return bool(_crc32c(covered) == batch.crc)  # it takes no memoryview


def keep_wire_bytes() -> None:
    """Let aiokafka's consumers of this process keep the bytes of what they fetch."""
    _fetcher.MemoryRecords = KeptRecords
