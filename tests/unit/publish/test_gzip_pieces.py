"""Bodies in gzip that are put together of pieces: any reader of gzip gets the pieces one after the other."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.publish.http.gzip_pieces import as_it_is, gzipped, piece

PIECES = st.lists(st.tuples(st.booleans(), st.binary(max_size=40), st.integers(0, 1_500)), max_size=8)


@given(PIECES)
def test_pieces_are_read_one_after_the_other(made):
    bodies = [body * times for _, body, times in made]
    pieces = [
        as_it_is(body) if stored and len(body) < 65_536 else piece(body)
        for (stored, _, _), body in zip(made, bodies, strict=True)
    ]
    whole = gzipped(pieces)
    assert gzip.decompress(whole) == b"".join(bodies)
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(whole) == b"".join(bodies)
    assert (reader.eof, reader.unused_data) == (True, b"")  # one member: some readers take no more


def test_a_piece_serves_any_number_of_bodies():
    long = piece(b"tokentide " * 50_000)
    for number in range(3):
        begin = f"{number} ".encode()
        assert gzip.decompress(gzipped([as_it_is(begin), long, long])) == begin + b"tokentide " * 100_000
    assert len(long.deflated) < long.size / 50


def test_a_stored_block_has_its_limit():
    body = b"x" * 65_535
    assert gzip.decompress(gzipped([as_it_is(body)])) == body
    with pytest.raises(ValueError, match="65536 bytes"):
        as_it_is(body + b"x")
