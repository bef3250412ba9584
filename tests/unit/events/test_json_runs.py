from __future__ import annotations

import numpy as np
import pytest

from pipeline.events.byte_columns import Buffer, odd_bytes
from pipeline.events.json_runs import read_run, runs_of


@pytest.mark.parametrize("quotes", [False, True])
def test_every_odd_byte_is_found_at_every_place_and_no_other(quotes: bool) -> None:
    codes = np.full((256, 8, 8), ord("a"), np.uint8)
    for place in range(8):
        codes[:, place, place] = np.arange(256)
    found = odd_bytes(codes.reshape(-1, 8).view("<u8").ravel(), quotes=quotes).reshape(256, 8)
    odd = [code < 0x20 or code > 0x7E or code == 0x5C or (quotes and code == 0x22) for code in range(256)]
    assert (found == np.array(odd)[:, None]).all()


def test_texts_of_a_run_are_taken_and_what_differs_is_told() -> None:
    (run, last) = runs_of((b'{"a":"', b'","b":"', b'","c":', b"}"), (3, 9, None))
    assert (run.length, run.scalar, last.length, last.scalar) == (6 + 3 + 7 + 9 + 6, 2, 1, None)
    texts = [b'{"a":"%s","b":"%s","c":1}' % pair for pair in [(b"one", b"long text"), (b"t\\o", b"long text")]]
    texts += [texts[0].replace(b'"b"', b'"B"'), texts[0].replace(b"one", b'o"e'), texts[0]]
    buffer = Buffer(texts, np.array([len(text) for text in texts]))
    bad, found = read_run(buffer, buffer.starts, run, {1})
    assert bad.tolist() == [False, True, True, True, False]
    assert list(found) == [1]
    assert found[1].length.tolist() == [9] * 5
    assert b"".join(bytes(word[4:5].astype("<u8")) for word in found[1].words) == b"long text".ljust(16, b"\0")


def test_long_runs_are_cut() -> None:
    runs = runs_of(tuple(b"x" * 400 for _ in range(6)), (100,) * 5)
    assert sum(run.length for run in runs) == 2_900
    assert max(run.length for run in runs) <= 1_024
    assert [text.scalar for run in runs for text in run.texts] == list(range(5))
