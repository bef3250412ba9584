"""Fields of protobuf messages, found together, are those that protobuf's own rules give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import protobuf_columns
from pipeline.events.byte_columns import Buffer
from pipeline.events.protobuf_columns import parts_of, varint, varints


def encoded(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + encoded(len(content)) + content


NUMBER = st.integers(0, 2**28 - 1) | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1])


@given(st.lists(NUMBER, min_size=1))
def test_a_varint_is_read_as_it_was_written(numbers: list[int]) -> None:
    words = np.array([int.from_bytes(encoded(n).ljust(8, b"\xff"), "little") for n in numbers], np.uint64)
    value, size = varints(words)
    assert value.tolist() == numbers
    assert size.tolist() == [len(encoded(n)) for n in numbers]
    assert [varint(encoded(n) + b"\xff", 0) for n in numbers] == [(n, len(encoded(n))) for n in numbers]


def test_a_longer_varint_is_none() -> None:
    _, size = varints(np.array([0xFFFFFFFFFF], np.uint64))
    assert size[0] > protobuf_columns.MOST_VARINT_BYTES
    assert varint(b"\xff\xff\xff\xff\x01", 0) == varint(b"\xff", 0) == varint(b"", 0) == (0, -1)


CONTENT = st.binary(max_size=5) | st.sampled_from([b"x" * 127, b"y" * 128, b"z" * 20_000])
MESSAGE = st.lists(st.tuples(st.sampled_from([0x0A, 0x12, 0x1A, 0x12, 0x22]), CONTENT), max_size=6)


@pytest.mark.parametrize("few", [0, 1_000], ids=["in turns", "each by itself"])
@given(messages=st.lists(MESSAGE, min_size=1, max_size=8), cut=st.integers(0, 3))
def test_the_fields_of_messages_are_found_in_order(few: int, messages: list[list[tuple[int, bytes]]], cut: int) -> None:
    texts = [b"".join(field(*part) for part in message) for message in messages]
    broken = [any(tag == 0x22 for tag, _ in message) for message in messages]
    if cut and texts[-1]:
        texts[-1] = texts[-1][:-cut]
        whole = [len(b"".join(field(*part) for part in messages[-1][:n])) for n in range(len(messages[-1]) + 1)]
        broken[-1] = len(texts[-1]) not in whole or (broken[-1] and 0x22 in _tags(messages[-1], len(texts[-1])))
    buffer = Buffer(texts, np.array([len(text) for text in texts], np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protobuf_columns, "_FEW", few or 1)
        found = parts_of(buffer, buffer.starts, buffer.ends, b"\x0a\x12\x1a")
    assert found.broken.tolist() == broken
    for row, message in enumerate(messages):
        if broken[row]:
            continue
        mine = found.owner == row
        parts = [buffer.data[a:b] for a, b in zip(found.start[mine].tolist(), found.end[mine].tolist(), strict=True)]
        kept = message[: len(parts)]
        assert list(zip(found.tag[mine].tolist(), parts, strict=True)) == kept
        assert sum(len(field(*part)) for part in kept) == len(texts[row])


def _tags(message: list[tuple[int, bytes]], size: int) -> list[int]:
    """Tags of the fields that lie within the first ``size`` bytes."""
    tags, at = [], 0
    for tag, content in message:
        if at >= size:
            break
        tags.append(tag)
        at += len(field(tag, content))
    return tags
