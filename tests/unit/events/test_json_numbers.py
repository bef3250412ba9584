"""Numbers read in columns, compared with what Python makes of each text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.events.byte_columns import Buffer
from pipeline.events.json_numbers import read_numbers

DECIMAL = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
COUNT = re.compile(r"0|[1-9][0-9]{0,6}")
TEXTS = st.from_regex(r"[0-9]{0,12}\.?[0-9]{0,12}|[-+0-9.eE x]{0,9}", fullmatch=True)


def read(texts: list[str], *, whole: bool) -> tuple[list[float], list[bool], list[int]]:
    records = [f"{text},.57,1".encode() for text in texts]  # what follows looks like numbers, too
    buffer = Buffer(records, np.array(list(map(len, records))))
    bad = np.zeros(len(texts), np.bool_)
    values, lengths = read_numbers(buffer, buffer.starts, ord(","), whole=whole, bad=bad)
    return values.tolist(), bad.tolist(), lengths.tolist()


@given(st.lists(TEXTS, min_size=1, max_size=6))
@example(["0.385", "2.620", "12", "0"])
@example(["1.", ".1", "01.5", "1.2.3", "", "-1.5", "1e5", "9.99999"])
@example(["1700000000.178", "0.1234567890123456", "123456789.12345678"])
def test_decimals(texts: list[str]) -> None:
    values, bad, lengths = read(texts, whole=False)
    for text, value, refused, length in zip(texts, values, bad, lengths, strict=True):
        assert refused == (DECIMAL.fullmatch(text) is None or len(text) >= 24)
        if not refused:
            assert (value, length) == (float(text), len(text))


@pytest.mark.parametrize("length", range(1, 8))
def test_short_decimals_of_every_form(length: int) -> None:
    texts = [("98765432"[:point] + "." + "10203040")[:length] for point in range(1, length + 1)]
    texts += [("0." + "0" * length)[: length - 1] + "7"] if length > 2 else []
    values, bad, _ = read(texts, whole=False)
    for text, value, refused in zip(texts, values, bad, strict=True):
        assert refused == text.endswith(".")
        assert refused or value == float(text)


@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_whole_numbers(texts: list[str]) -> None:
    values, bad, _ = read(texts, whole=True)
    for text, value, refused in zip(texts, values, bad, strict=True):
        assert refused == (COUNT.fullmatch(text) is None)
        assert refused or value == int(text)
