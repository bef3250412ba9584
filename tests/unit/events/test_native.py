"""The native codec: what it takes, and the reason it gives for everything else."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from pipeline.errors import EventRejected
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs import native
from pipeline.events.codecs.registry import codec_named
from pipeline.events.inspect import inspect_record
from pipeline.events.request_event import SCHEMA, RequestEvent
from pipeline.events.validation import EventLimits

GOOD = (
    b'{"event_id":"a-1","model":"m","input_tokens":10,"output_tokens":2,"status":"ok","completed_at":5,"e2e_seconds":1}'
)


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_takes_a_good_event():
    event = native.decode(GOOD).event
    assert (event.event_id, event.pool, event.completed_at, event.arrived_at) == ("a-1", "default", 5.0, None)


def test_skips_a_registry_header():
    assert native.decode(b"\x00\x00\x00\x00\x07" + GOOD) == native.decode(GOOD)


def test_ignores_unknown_fields():
    assert native.decode(replaced(b'"model"', b'"prompt":["secret"],"model"')) == native.decode(GOOD)


def test_encode_round_trip_carries_the_schema():
    event = native.decode(GOOD).event
    assert msgspec.json.decode(native.encode(event))["schema"] == SCHEMA
    assert native.decode(native.encode(event)).event == event


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\x00", "malformed"),
        (b"{", "malformed"),
        (b"not json", "malformed"),
        (GOOD + GOOD, "malformed"),
        (GOOD + b"," + GOOD, "malformed"),
        (b"\xff\xfe" + GOOD, "malformed"),
        (replaced(b'"m"', b'"\xff"'), "malformed"),
        (replaced(b":10", b":NaN"), "not_finite"),
        (b'{"x":' + b"[" * 100_000, "malformed"),
        (b"null", "wrong_type"),
        (b"[]", "wrong_type"),
        (b"5", "wrong_type"),
        (replaced(b":10", b':"10"'), "wrong_type"),
        (replaced(b":10", b":1.5"), "wrong_type"),
        (replaced(b":10", b":true"), "wrong_type"),
        (replaced(b'"m"', b"7"), "wrong_type"),
        (replaced(b'"status":"ok",', b""), "missing_field"),
        (replaced(b'"m"', b'""'), "missing_field"),
        (b"{}", "missing_field"),
        (replaced(b":10", b":-10"), "negative"),
        (replaced(b'"e2e_seconds":1', b'"e2e_seconds":-1'), "negative"),
        (replaced(b'"e2e_seconds":1', b'"e2e_seconds":1e999'), "not_finite"),
        (replaced(b":10", b":10000001"), "implausible"),
        (replaced(b":10", b":" + b"9" * 5_000), "implausible"),
        (replaced(b'"e2e_seconds":1', b'"e2e_seconds":86401'), "implausible"),
        (replaced(b'"m"', b'"' + b"m" * 257 + b'"'), "implausible"),
        (replaced(b"{", b'{"schema":"other.v1",'), "unknown_schema"),
        (b'{"schema":"other.v1"}', "unknown_schema"),
    ],
)
def test_reasons(value, reason):
    with pytest.raises(EventRejected) as caught:
        native.decode(value)
    assert caught.value.reason == reason
    assert 0 < len(caught.value.detail) <= 300


def test_bounds_hold_for_every_number_and_text_of_the_type():
    """A new field cannot come in unbounded."""
    for field in msgspec.inspect.type_info(RequestEvent).fields:
        options = getattr(field.type, "types", (field.type,))
        for option in options:
            if isinstance(option, msgspec.inspect.IntType):
                assert option.ge == 0, field.name
                assert option.le is not None, field.name
            if isinstance(option, msgspec.inspect.StrType) and field.name not in {
                "schema",
                "status",  # checked against the list
                "arrived_at",
                "completed_at",
            }:
                assert option.max_length == 256, field.name


def tried(value: bytes | None) -> object:
    try:
        return native.decode(value).event
    except EventRejected as error:
        return error.reason, error.detail


def unusable(value: bytes | None) -> tuple[str, ...]:
    try:
        return native.decode(value).unknown
    except EventRejected:
        return ()


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.sampled_from(["a", "", "\x00", 5]),
        "status": st.sampled_from(["ok", "timeout", "odd", None]),
        "schema": st.sampled_from(["tokentide.request.completed.v1", "other.v1", 3]),
        "arrived_at": st.sampled_from([1, 1.5, "2026-01-01T00:00:00Z", None, True]),
        "e2e_seconds": st.sampled_from([0, 2.5, -1, 1e9, "2"]),
        "cached_input_tokens": st.sampled_from([0, 3, -1, None, 2.0, 2.5]),
        "preemptions": st.sampled_from([1, None, "1"]),
        "tenant": st.sampled_from(["t", None, 5, "x" * 300]),
        "region": st.sampled_from(["eu", 1]),
        "labels": st.just({"team": "x"}),
    },
)


@given(st.lists(FIELDS | st.sampled_from([b"", b"{", None]), max_size=6), st.booleans())
def test_a_batch_decodes_as_its_records_do(bodies: list[object], all_fields: bool) -> None:
    values = [json.dumps(json.loads(GOOD) | body).encode() if isinstance(body, dict) else body for body in bodies]
    events, refused, unknown = native.decode_many(values, all_fields=all_fields)
    assert unknown == [(i, name) for i, value in enumerate(values) for name in unusable(value)]
    expected = [tried(value) for value in values]
    assert [(i, (error.reason, error.detail)) for i, error in refused] == [
        (i, found) for i, found in enumerate(expected) if isinstance(found, tuple)
    ]
    decoded = [found for found in expected if not isinstance(found, tuple)]
    assert len(events) == len(decoded)
    for event, single in zip(events, decoded, strict=True):
        names = [field.name for field in fields(single)] if all_fields else native.COUNTED_FIELDS
        assert [getattr(event, name) for name in names] == [getattr(single, name) for name in names]
        assert all(getattr(event, field.name, field.default) == getattr(single, field.name) for field in fields(single))


NOW = 60.0
TOLERATED = (
    (b"\xef\xbb\xbf" + GOOD, ()),
    (b"\x00\x00\x00\x00\x07" + GOOD, ()),
    (replaced(b"{", b'{"user":"cut \\ud83d",'), ()),
    (replaced(b"{", b'{"other":NaN,'), ()),
    (replaced(b"{", b'{"other":' + b"9" * 5_000 + b","), ()),
    (replaced(b"{", b'{"ttft_seconds":-Infinity,'), ("ttft_seconds",)),
)


@pytest.mark.parametrize(("value", "unknown"), TOLERATED)
@pytest.mark.parametrize("codec", ["auto", "native"])
def test_what_is_odd_about_a_text_costs_no_event(value, unknown, codec):
    found = inspect_record(value, codec_named(codec), EventLimits(), NOW)
    assert (found.verdict, tuple(found.unknown)) == ("accepted", unknown), found.detail
    columns, rejections, _ = decode_batch([GOOD, value], [-1] * 2, NOW, EventLimits(), codec=codec_named(codec))
    assert (columns.index.tolist(), rejections) == ([0, 1], [])


@pytest.mark.parametrize("codec", ["auto", "native"])
def test_a_name_that_was_cut_within_a_character_is_refused_and_said(codec):
    value = replaced(b'"m"', b'"m\\ud83d"')
    found = inspect_record(value, codec_named(codec), EventLimits(), NOW)
    assert (found.reason, "U+001A at position 1" in found.detail) == ("implausible", True)
    _, rejections, _ = decode_batch([value], [-1], NOW, EventLimits(), codec=codec_named(codec))
    assert rejections[0].detail == found.detail
