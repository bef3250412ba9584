"""Attributes of OTLP protobuf: the short way reads what protobuf itself reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from benchmarks.codecs.records import as_collector_writes
from pipeline.events.codecs.otlp_attributes import plain_attributes

NAME = "gen_ai.request.model"
WANTED = frozenset({NAME, "n"})
VALUES = st.one_of(
    st.text(max_size=200),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**21),
    st.floats(allow_nan=False),
)


def attribute(name: str, value: Any, *, collected: bool = False) -> bytes:
    """As SDKs write it (the key first), or a collector (the value first)."""
    kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
    made = KeyValue(key=name, value=AnyValue(**{kind: value}))
    return as_collector_writes(made) if collected else bytes(made.SerializeToString())


@given(st.sampled_from([NAME, "n", "x" * 130, ""]), VALUES, st.booleans())
def test_a_value_is_what_was_sent(name: str, value: Any, collected: bool) -> None:
    raw = attribute(name, value, collected=collected)
    assert KeyValue.FromString(raw).key == name
    found = plain_attributes([raw], WANTED)
    assert found == ({name: value} if name in WANTED else {})
    assert all(type(one) is type(value) for one in found.values())


@given(VALUES, st.booleans(), st.data())
def test_of_damaged_bytes_it_says_what_the_parser_of_protobuf_says(
    value: Any, collected: bool, data: st.DataObject
) -> None:
    raw = bytearray(attribute("n", value, collected=collected))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        parsed = KeyValue.FromString(bytes(raw))
    except DecodeError:
        parsed = None
    try:
        found = plain_attributes([bytes(raw)], WANTED)
    except DecodeError:
        assert parsed is None
        return
    if parsed is None:  # what is not wanted is not parsed
        assert found == {}
        return
    kind = parsed.value.WhichOneof("value")
    if parsed.key not in WANTED or kind is None:
        assert found == {}
    elif kind in ("string_value", "bool_value", "int_value", "double_value"):
        expected = getattr(parsed.value, kind)
        assert found[parsed.key] == expected or (math.isnan(expected) and math.isnan(found[parsed.key]))


def test_the_last_of_two_counts_and_arrays_are_lists() -> None:
    reasons = KeyValue(key="n")
    reasons.value.array_value.values.add(string_value="stop")
    twice = [attribute("n", 1), attribute("n", 2)]
    assert plain_attributes(twice, WANTED) == {"n": 2}
    assert plain_attributes([reasons.SerializeToString()], WANTED) == {"n": ["stop"]}


def test_a_long_text_that_nobody_reads_is_not_decoded() -> None:
    for collected in (False, True):
        prompt = attribute("gen_ai.prompt", "p" * 10_000, collected=collected)
        assert plain_attributes([prompt.replace(b"pppp", b"\xff\xff\xff\xff")], WANTED) == {}
    with pytest.raises(DecodeError):
        plain_attributes([attribute("n", "p" * 10_000).replace(b"pppp", b"\xff\xff\xff\xff")], WANTED)
