"""Refused records on their own topic: the bytes as they came, and headers that say where they lay and why."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.errors import ServerUnavailable
from pipeline.stream.kafka.batch import RecordBatch
from pipeline.windows.partition_folder import DeadLetter

__all__ = ["dead_letter_headers", "send_dead_letters"]

#: Headers of the original record are kept up to this many bytes: nothing in a record may make its dead letter refused.
_MAX_HEADER_BYTES = 16_384


def dead_letter_headers(
    batch: RecordBatch, letter: DeadLetter, app_version: str, *, keep_own: bool = True
) -> list[tuple[str, bytes | None]]:
    """The headers of one dead letter: ``dlq.*`` first, then (``keep_own``) those that the record came with."""
    size = 0 if letter.value is None else len(letter.value)
    headers: list[tuple[str, bytes | None]] = [
        ("dlq.topic", batch.topic.encode()),
        ("dlq.partition", str(batch.partition).encode()),
        ("dlq.offset", str(letter.offset).encode()),
        ("dlq.reason", str(letter.reason).encode()),
        ("dlq.detail", letter.detail.encode("utf-8", "replace")),
        ("dlq.size_bytes", str(size).encode()),
        ("dlq.app_version", app_version.encode()),
    ]
    room = _MAX_HEADER_BYTES if keep_own else 0
    for name, value in batch.headers.get(bisect_left(batch.offsets, letter.offset), ()):
        room -= len(name) + len(value or b"") + 8
        if room < 0:
            break
        headers.append((name, value))
    return headers


async def send_dead_letters(
    producer: AIOKafkaProducer,
    topic: str,
    batch: RecordBatch,
    letters: Sequence[DeadLetter],
    *,
    max_bytes: int,
    app_version: str,
) -> None:
    """Write ``letters`` of ``batch`` and wait until the broker has them.

    Values are cut to ``max_bytes``; with 0 nothing of a record is kept, neither its value nor its headers.

    A crash between this and the delta writes them again: the topic is at least once, the store's table exactly once.

    Raises:
        ServerUnavailable: the broker refused one or did not answer.
    """
    try:
        pending = []
        for letter in letters:
            key = f"{batch.topic}/{batch.partition}/{letter.offset}".encode()
            value = letter.value[:max_bytes] if letter.value is not None and max_bytes else None
            headers = dead_letter_headers(batch, letter, app_version, keep_own=max_bytes > 0)
            pending.append(await producer.send(topic, value, key=key, headers=headers))
        await asyncio.gather(*pending)
    except KafkaError as error:
        raise ServerUnavailable(f"{topic} cannot be written: {error!r}") from error
