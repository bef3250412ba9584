"""The delta codec refuses whatever could not be applied safely; the applying rule."""

import copy

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CodecError
from pipeline.events.codecs import native
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits
from pipeline.windows.delta import applies, covered_position, decode, encode, first_needed
from pipeline.windows.partition_folder import PartitionAggregator

NOW = 1_767_225_600.0


def make():
    values = [
        native.encode(
            RequestEvent(
                event_id=str(i),
                model="m",
                input_tokens=10,
                output_tokens=5,
                status="ok",
                completed_at=NOW + i,
                e2e_seconds=2.0,
            )
        )
        for i in range(20)
    ]
    agg = PartitionAggregator("t", 0, "p", EventLimits(), 100)
    delta, _ = agg.fold([*values, b"{"], range(21), [-1] * 21, 0, 21, NOW)
    return delta


def heartbeat(position, base=-1):
    delta = PartitionAggregator("t", 0, "p", EventLimits(), 0).heartbeat(position)
    delta.base_delta_offset = base
    return delta


def span(start, stop, base):
    delta = heartbeat(start, base)
    delta.through_offset, delta.idle = stop - 1, False
    return delta


def test_round_trip():
    assert decode(encode(make())) == make()


@pytest.mark.parametrize("value", [None, b"", b"null", b"[]", b"{", b"\xff", b"{}", b"[" * 100_000, b'{"schema":"x"}'])
def test_no_delta(value):
    with pytest.raises(CodecError):
        decode(value)


def changed(path, to):
    def change(body):
        *parents, last = path
        for name in parents:
            body = body[name]
        body[last] = to(body[last]) if callable(to) else to

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(["schema"], "tokentide.window-delta.v3"),
        changed(["base_seconds"], 60),
        changed(["partition"], -1),
        changed(["topic"], ""),
        changed(["from_offset"], -1),
        changed(["from_offset"], 25),
        changed(["through_offset"], 2**63),
        changed(["base_delta_offset"], -2),
        changed(["events"], 21),
        changed(["records"], 10**9),
        changed(["lost"], -1),
        changed(["lost"], 5),
        changed(["max_event_at"], -5.0),
        changed(["max_event_at"], 1e300),
        changed(["keys"], []),
        changed(["keys", 0], ["m", "p"]),
        changed(["keys", 0, 0], "m" * 70_000),
        changed(["rows", "window", 0], lambda w: w + 1),
        changed(["rows", "window", 0], lambda w: w + 10),  # the next row has that window already
        changed(["rows", "window"], lambda w: w[1:]),
        changed(["rows", "key", 0], 1),
        changed(["rows", "key", 0], -1),
        changed(["rows", "measures"], lambda m: m[1:]),
        changed(["rows", "measures", 0, 0], -1),
        changed(["rows", "measures", 0, 0], lambda n: n + 1),
        changed(["rows", "measures", 6, 0], 2**63),
        changed(["rows", "max_completed_ms", 0], -1),
        changed(["histograms", "row", 0], 99),
        changed(["histograms", "metric", 0], 8),
        changed(["histograms", "bucket", 0], 40_000),
        changed(["histograms", "bucket", 0], -9_999),
        changed(["histograms", "n", 0], 0),
        changed(["histograms", "n"], lambda n: n[1:]),
        changed(["dead_letters", 0, "offset"], 21),
        changed(["dead_letters", 0, "reason"], "r" * 5_000),
        changed(["rows"], None),
    ],
)
def test_a_delta_that_cannot_be_applied_is_refused(change):
    body = msgspec.json.decode(encode(make()))
    whole = copy.deepcopy(body)
    change(body)
    assert body != whole
    with pytest.raises(CodecError):
        decode(msgspec.json.encode(body))


@given(st.binary(max_size=300))
def test_no_bytes_crash_it(value):
    with pytest.raises(CodecError):
        decode(value)


def test_the_rule():
    delta = span(10, 20, 0)
    assert applies(None, delta) == "apply"
    assert applies(10, delta) == "apply"
    assert applies(11, delta) == "drop"  # overlaps in part
    assert applies(30, delta) == "drop"
    assert applies(9, delta) == "gap"
    assert applies(10, heartbeat(10)) == "apply"


def test_covered_position():
    assert covered_position([]) is None
    assert covered_position([(0, span(5, 10, -1))]) == 10
    tail = [(7, span(10, 20, 6)), (8, span(10, 30, 6)), (9, span(20, 40, 7))]  # 8 is a zombie's
    assert first_needed(tail) == 8
    assert covered_position(tail) == 40
    assert covered_position(tail[1:]) == 40
    assert covered_position([*tail, (10, None)]) == 40


def test_covered_position_wants_the_records_it_needs():
    with pytest.raises(CodecError, match="needed from 7"):
        covered_position([(9, span(20, 40, 6))])
    with pytest.raises(CodecError, match="holes"):
        covered_position([(7, span(10, 20, 6)), (9, span(20, 40, 6))])
    with pytest.raises(CodecError, match="needed from 0"):
        covered_position([(9, None)])
    assert covered_position([(0, None)]) is None
