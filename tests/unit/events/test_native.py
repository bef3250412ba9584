"""The native codec: what it takes, and the reason it gives for everything else."""

import msgspec
import pytest

from pipeline.errors import EventRejected
from pipeline.events.codecs import native
from pipeline.events.model import SCHEMA, RequestEvent

GOOD = (
    b'{"event_id":"a-1","model":"m","input_tokens":10,"output_tokens":2,"status":"ok","completed_at":5,"e2e_seconds":1}'
)


def replaced(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_takes_a_good_event():
    event = native.decode(GOOD)
    assert (event.event_id, event.pool, event.completed_at, event.arrived_at) == ("a-1", "default", 5.0, None)


def test_skips_a_registry_header():
    assert native.decode(b"\x00\x00\x00\x00\x07" + GOOD) == native.decode(GOOD)


def test_ignores_unknown_fields():
    assert native.decode(replaced(b'"model"', b'"prompt":["secret"],"model"')) == native.decode(GOOD)


def test_encode_round_trip_carries_the_schema():
    event = native.decode(GOOD)
    assert msgspec.json.decode(native.encode(event))["schema"] == SCHEMA
    assert native.decode(native.encode(event)) == event


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
        (replaced(b'"m"', b'"\\ud800"'), "malformed"),
        (replaced(b":10", b":NaN"), "malformed"),
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
        (replaced(b'"completed_at":5', b'"completed_at":1e999'), "not_finite"),
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
