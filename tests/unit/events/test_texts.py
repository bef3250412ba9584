"""Texts in a buffer, eight bytes at a time."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.events.texts import PAD, Buffer, hashes_of


LONG = st.builds(str.__mul__, st.sampled_from(["a", "€", "🜂", "é€"]), st.integers(100, 256))


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
