"""No input, however close to a real one, crashes a codec or gets lost: every record is counted in exactly one way."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs.registry import BUILT_IN, codec_named
from pipeline.events.validation import EventLimits
from pipeline.windows.delta import decode, encode
from pipeline.windows.partition_folder import PartitionAggregator
from tests.unit.events.codecs.test_golden import GOLDEN, NOW, record
from tests.unit.events.codecs.test_otlp import SPANS, as_protobuf

RECORDS = [record(golden) for golden in GOLDEN.values()] + [as_protobuf(GOLDEN[name]["record"]) for name in SPANS]
ODD = st.sampled_from(
    [None, True, -1, 0, 1.5, 1e300, 10**30, "", "x" * 300, "NaN", "\x00", [], [[]], {}, {"a": []}, "2026-01-01"]
)


@st.composite
def damaged(draw):
    """A real record with bytes changed or cut out."""
    value = bytearray(draw(st.sampled_from(RECORDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value) - 1))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
        if not value:
            break
    return bytes(value)


@st.composite
def changed(draw):
    """A real record with one value, at any depth, replaced by an odd one."""
    value = json.loads(json.dumps(draw(st.sampled_from([golden["record"] for golden in GOLDEN.values()]))))
    at = value
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw(ODD)
        break
    return json.dumps(value).encode()


@pytest.mark.parametrize("codec", [*BUILT_IN, "auto"])
@settings(max_examples=60, deadline=None)
@given(st.lists(damaged() | changed() | st.sampled_from(RECORDS) | st.binary(max_size=40) | st.none(), max_size=4))
def test_every_record_is_counted_once(codec, values):
    columns, rejections, notes = decode_batch(values, [-1] * len(values), NOW, EventLimits(), codec=codec_named(codec))
    outcomes = [*set(columns.index.tolist()), *(r.position for r in rejections), *notes.ignored]
    assert sorted(outcomes) == list(range(len(values)))
    assert all(r.detail for r in rejections)


@settings(max_examples=60, deadline=None)
@given(st.lists(damaged() | changed() | st.sampled_from(RECORDS) | st.none(), max_size=8), st.integers(0, 8))
def test_the_ledger_balances_whatever_comes(values, split):
    aggregator = PartitionAggregator("t", 0, "p", EventLimits(), 100, codec=codec_named("auto"))
    totals = {"records": 0, "ignored": 0, "dead": 0, "event_records": 0}
    for start, stop in ((0, min(split, len(values))), (min(split, len(values)), len(values))):
        delta, dead = aggregator.fold(values[start:stop], range(start, stop), [-1] * (stop - start), start, stop, NOW)
        if delta is None:
            continue
        delta = decode(encode(delta))
        assert sum(delta.rows.measures[0]) == delta.events
        totals["records"] += delta.records
        totals["ignored"] += delta.ignored
        totals["dead"] += len(dead)
        totals["event_records"] += delta.event_records
    assert totals["records"] == len(values) == totals["ignored"] + totals["dead"] + totals["event_records"]
