"""Texts in a buffer, eight bytes at a time."""

import random
import uuid

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.events.byte_columns import PAD, Buffer, hashes_of

LONG = st.builds(str.__mul__, st.sampled_from(["a", "€", "🜂", "é€"]), st.integers(100, 256))


@pytest.mark.slow
@given(st.lists(st.text(max_size=40) | LONG, min_size=1, max_size=20))
@example(["€" * 256, "a"])
@example(["🜂" * 256, "🜂" * 255, ""])
def test_hashes_tell_texts_apart_whatever_else_is_hashed_with_them(texts):
    together = hashes_of(texts)
    assert (together[:, 1] & 1).all()
    for text, found in zip(texts, together, strict=True):
        assert found.tolist() == hashes_of([text])[0].tolist()
    assert len({tuple(row) for row in together.tolist()}) == len(set(texts))


def test_padding_is_not_text():
    assert len({tuple(row) for row in hashes_of(["", "\0", "\0\0", "a", "a\0", "a" * 8, "a" * 8 + "\0"]).tolist()}) == 7


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1), st.integers(0, 255))
def test_where_a_byte_comes_next(texts, byte):
    ended = [text + bytes([byte]) for text in texts]
    lengths = np.array([len(text) for text in ended])
    buffer = Buffer(ended, lengths)
    found, _ = buffer.until(buffer.starts, byte, 5)
    assert found.tolist() == [text.index(byte) for text in ended]
    assert buffer.data[PAD:-PAD] == b"".join(ended)


def pairs(first, second):
    """The numbers of two counters, 300,000 pairs of them."""
    return [(i, j) for i in range(first) for j in range(second)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        lambda: [f"job{w:05x}{c:08x}" for w, c in pairs(300, 1_000)],
        lambda: [f"job{w * 0x500:05x}{c * 0x10001:08x}" for w, c in pairs(300, 1_000)],
        lambda: [f"job{0xA000 + w:05x}{c << 16 | c:08x}" for w, c in pairs(1_000, 300)],
        lambda: [f"{i}" for i in range(300_000)],
        lambda: [f"req-{i:016d}" for i in range(300_000)],
        lambda: [f"{w}-{c}" for w, c in pairs(500, 600)],
        lambda: [f"{w:08x}-{c:08x}" for w, c in pairs(500, 600)],
        lambda: [f"chatcmpl-{w:04x}{c:012x}-{w ^ c:04x}" for w, c in pairs(500, 600)],
        lambda: [f"0190a5b2-{w:04x}-7{c:03x}-8000-{w * c:012x}" for w, c in pairs(300, 1_000)],
        lambda: [f"{i:032x}" for i in range(300_000)],
        lambda: [f"{i << 96 | i:032x}" for i in range(300_000)],
        lambda: [uuid.UUID(int=random.Random(i).getrandbits(128)).hex for i in range(30_000)],
    ],
    ids=[
        "hex-of-two-counters",
        "spread",
        "high",
        "number",
        "padded-number",
        "two-numbers",
        "two-hex",
        "chatcmpl",
        "uuid7",
        "hex",
        "hex-twice",
        "uuid4",
    ],
)
def test_ids_as_emitters_number_them_differ_in_each_half(made):
    ids = made()
    hashes = hashes_of(ids)
    assert len(np.unique(hashes[:, 0])) == len(ids)
    assert len(np.unique(hashes[:, 1] >> np.uint64(1))) == len(ids)


def test_two_ids_that_one_round_of_mixing_takes_for_one():
    one, other = hashes_of(["job000a500080008", "job000af000e000e"]).tolist()
    assert one != other
