"""The batch path decides exactly as the single path, record by record."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import EventRejected
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.byte_columns import hashes_of
from pipeline.events.codecs import native
from pipeline.events.columns import dimension_text, from_events
from pipeline.events.request_event import RequestEvent
from pipeline.events.validation import EventLimits, check, reference_seconds
from pipeline.windows.fold import fold

NOW = 1_767_225_600.0
LIMITS = EventLimits(max_bytes=100_000)


def event(event_id="a", **changes):
    values = {"model": "m", "input_tokens": 10, "output_tokens": 5, "status": "ok", "completed_at": NOW}
    return RequestEvent(event_id=event_id, **{"e2e_seconds": 2.0, **values, **changes})


def decode(values, stamps=None, **options):
    stamps = [int(NOW * 1000)] * len(values) if stamps is None else stamps
    return decode_batch(values, stamps, NOW, LIMITS, **options)[:2]


def test_columns():
    columns, rejections = decode(
        [
            native.encode(event("a", cached_input_tokens=4, ttft_seconds=0.5, preemptions=1)),
            b"{",
            native.encode(
                event("b", pool="chat", status="rejected", output_tokens=0, completed_at="2026-01-01T00:00:00Z")
            ),
        ]
    )
    assert [(r.position, r.reason) for r in rejections] == [(1, "malformed")]
    assert columns.ids.tolist() == hashes_of(["a", "b"]).tolist()
    assert columns.index.tolist() == [0, 2]
    assert columns.arrived_at.tolist() == [NOW - 2, NOW - 2]
    assert columns.cached_input_tokens.tolist() == [4, -1]
    assert columns.status.tolist() == [0, 3]
    assert [tuple(columns.keys[i]) for i in columns.key] == [("m", "default", ""), ("m", "chat", "")]
    assert columns.tpot[0] == pytest.approx((2.0 - 0.5) / 4)  # derived
    assert math.isnan(columns.tpot[1])
    assert math.isnan(columns.queue[0])


def test_an_empty_batch():
    columns, rejections = decode([])
    assert len(columns) == 0
    assert rejections == []


def test_too_large_is_not_even_decoded():
    columns, rejections = decode([b"{" * 5_000_000, native.encode(event())])
    assert len(columns) == 1
    assert rejections[0].reason == "too_large"


def test_broken_halves_never_join():
    whole = native.encode(event())
    columns, rejections = decode([whole[:30], whole[30:], whole + b"," + whole])
    assert len(columns) == 0
    assert [r.position for r in rejections] == [0, 1, 2]


def test_judged_by_the_records_own_time():
    old = native.encode(event(completed_at=NOW - 30 * 86_400))
    columns, _ = decode([old], stamps=[int((NOW - 30 * 86_400) * 1000)])
    assert len(columns) == 1  # a replay of an old topic
    _, rejections = decode([old])
    assert rejections[0].reason == "too_old"


def test_unprintable_names_are_refused_and_others_pass():
    columns, rejections = decode(
        [native.encode(event("a", model="m\n")), native.encode(event("b\x07")), native.encode(event("c"))]
    )
    assert columns.ids.tolist() == hashes_of(["c"]).tolist()
    assert [r.reason for r in rejections] == ["implausible", "implausible"]


@pytest.mark.parametrize("character", ["€", "🜂"])
def test_the_longest_ids_are_read_whatever_follows_them(character):
    names = [character * 256, character * 175, "a"]
    columns, rejections = decode([native.encode(event(name)) for name in names])
    assert rejections == []
    assert columns.ids.tolist() == [hashes_of([name])[0].tolist() for name in names]
    assert len(set(columns.ids[:, 0].tolist())) == 3


def test_a_record_like_no_other_does_not_keep_the_rest_from_being_read_together(monkeypatch):
    alike = [native.encode(event(str(i))) for i in range(300)]
    monkeypatch.setattr(native, "decode_many", refuse := Refuse(native.decode_many))
    columns, rejections = decode([b"{", b'{"a":' + b"[" * 400 + b"]" * 400 + b"}", *alike])
    assert len(columns) == 300
    assert [r.position for r in rejections] == [0, 1]
    assert refuse.most == 2


class Refuse:
    """Notes how many records are decoded one by one."""

    def __init__(self, decode_many):
        self._decode_many = decode_many
        self.most = 0

    def __call__(self, values, **options):
        self.most = max(self.most, len(values))
        return self._decode_many(values, **options)


def test_dimensions_make_keys_and_stay_distinct():
    columns, _ = decode(
        [
            native.encode(event("a", region="eu", tenant="x|region=us")),
            native.encode(event("b", region="eu")),
            native.encode(event("c", tenant="\n")),
        ],
        dimensions=("region", "tenant"),
    )
    dims = [columns.keys[i].dims for i in columns.key]
    assert dims == ["region=eu|tenant=x%7c;region%3d;us", "region=eu", "tenant=%a;"]
    assert dimension_text(event(), ("region",)) == ""


def test_unchecked_columns_mark_what_no_check_may_pass():
    columns = from_events([event(arrived_at="nonsense", completed_at="nonsense", status="odd")])
    assert np.isinf(columns.arrived_at[0])
    assert columns.status[0] == -1


NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([NOW, NOW - 2, NOW + 59, NOW + 61, NOW - 7 * 86_400, 0.0, -5.0, 1e300]),
)
EVENTS = st.builds(
    RequestEvent,
    event_id=st.text(min_size=1, max_size=4),
    model=st.sampled_from(["m", "m\t", "模"]),
    input_tokens=st.integers(0, 20),
    output_tokens=st.integers(0, 20),
    cached_input_tokens=st.none() | st.integers(0, 20),
    status=st.sampled_from(["ok", "error", "fine"]),
    arrived_at=st.none() | NUMBER | st.sampled_from(["x", "2026-01-01T00:00:00Z"]),
    completed_at=st.none() | NUMBER | st.sampled_from(["x", "2026-01-01T00:00:00Z"]),
    e2e_seconds=st.none() | st.floats(0, 86_400),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(EVENTS, st.sampled_from([-1, int(NOW * 1000), int(NOW * 2000), int(NOW * 500), 0])), max_size=8)
)
def test_batch_and_single_path_agree(pairs):
    columns, rejections = decode([native.encode(e) for e, _ in pairs], [stamp for _, stamp in pairs])
    accepted = {}
    reasons = {}
    for i, (e, stamp) in enumerate(pairs):
        try:
            checked = check(e, reference_seconds(stamp, NOW), LIMITS).event
            accepted[i] = checked.arrived_at, checked.completed_at
        except EventRejected as error:
            reasons[i] = error.reason
    assert {r.position: r.reason for r in rejections} == reasons
    times = zip(columns.arrived_at.tolist(), columns.completed_at.tolist(), strict=True)
    assert dict(zip(columns.index.tolist(), times, strict=True)) == accepted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=200), max_size=5))
def test_no_bytes_crash_it(values):
    columns, rejections = decode(values)
    assert len(columns) + len(rejections) == len(values)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.just([]),
)
NEARLY = st.dictionaries(st.sampled_from(RequestEvent.__struct_fields__), ANYTHING, max_size=4)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(NEARLY, max_size=4))
def test_no_values_crash_it(changes):
    good = msgspec.json.decode(native.encode(event()))
    values = [msgspec.json.encode(good | change) if fits(change) else b"{" for change in changes]
    columns, rejections = decode(values, dimensions=("tenant", "region"))
    assert len(columns) + len(rejections) == len(values)
    _, rows, histograms = fold(columns)
    assert sum(rows.measures[0]) == len(columns)
    assert all(n > 0 for n in histograms.n)


def fits(change):
    """Whether msgspec can write it (integers of 64 bits)."""
    return all(not isinstance(v, int) or -(2**63) <= v < 2**64 for v in change.values())
