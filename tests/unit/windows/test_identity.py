"""Which events are the same request, and what records without events come to."""

import json
from pathlib import Path

import pytest

from pipeline.errors import CodecError
from pipeline.events.codecs.registry import codec_named
from pipeline.events.validation import EventLimits
from pipeline.windows.delta import decode, encode
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import split
from pipeline.windows.types import HISTOGRAMS, MEASURES
from tests.unit.events.codecs.test_golden import GOLDEN, NOW, record

V1 = Path(__file__).parents[2] / "data" / "window-delta-v1.json"


def event(**changes):
    made = {
        "event_id": "chatcmpl-8",
        "model": "m",
        "arrived_at": NOW - 50,
        "e2e_seconds": 1.0,
        "input_tokens": 100,
        "output_tokens": 20,
        "status": "ok",
    }
    return json.dumps(made | changes).encode()


def folded(values, emit_from=None, codec="auto"):
    aggregator = PartitionAggregator("t", 0, "p", EventLimits(), 1_000, codec=codec_named(codec))
    delta, dead = aggregator.fold(
        values, range(len(values)), [-1] * len(values), 0, len(values), NOW, emit_from=emit_from
    )
    return decode(encode(delta)), dead


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({}, 1),
        ({"status": "error"}, 1),
        ({"pool": "other"}, 1),
        ({"arrived_at": NOW - 49.99}, 2),
        ({"input_tokens": 101}, 2),
        ({"output_tokens": None}, 2),
        ({"attempt": 2}, 2),
        ({"event_id": "chatcmpl-9"}, 2),
    ],
    ids=str,
)
def test_the_same_request_is_the_same_id_attempt_arrival_and_size(change, counted):
    delta, _ = folded([event(), event(**change)])
    assert (delta.events, delta.duplicates) == (counted, 2 - counted)


def test_a_constant_id_costs_no_demand_and_is_reported():
    values = [event(event_id="x", arrived_at=NOW - 50 + i / 10) for i in range(60)]
    delta, _ = folded([*values, *values])
    assert (delta.events, delta.duplicates, delta.reused_ids) == (60, 60, 59)
    assert folded([event(event_id=str(i)) for i in range(60)])[0].reused_ids == 0


def test_unknown_usage_is_counted_apart_and_adds_nothing():
    delta, _ = folded(
        [event(), event(event_id="b", output_tokens=None), event(event_id="c", status="rejected", input_tokens=None)]
    )
    sums = {name: sum(column) for name, column in zip(MEASURES, delta.rows.measures, strict=True)}
    assert (sums["requests"], sums["rejected"]) == (3, 1)
    assert (sums["input_tokens"], sums["input_tokens_unknown"]) == (200, 1)
    assert (sums["output_tokens"], sums["output_tokens_unknown"]) == (40, 1)
    assert delta.unknown == {"input_tokens": 1, "output_tokens": 1}


def test_the_ledger_of_records_with_none_one_or_several_events():
    names = [
        "otlp-no-requests",
        "otlp-old-names-and-errors",
        "litellm-array",
        "native-bare",
        "openai-usage-no-duration",
    ]
    delta, dead = folded([record(GOLDEN[name]) for name in names] * 2)
    assert (delta.records, delta.ignored, len(dead), delta.event_records) == (10, 2, 2, 6)
    assert (delta.events, delta.duplicates) == (7, 7)
    assert delta.ignored_parts == 2 * (1 + 1 + 1)
    assert delta.codecs == {"litellm": 2, "openai_usage": 2, "otlp_json": 4} or "otlp_json" in delta.codecs


def test_records_below_the_position_are_in_no_ledger():
    values = [record(GOLDEN["otlp-no-requests"]), record(GOLDEN["litellm-array"]), b"{", event(max_output_tokens=-1)]
    delta, dead = folded(values, emit_from=3)
    assert (delta.records, delta.ignored, len(dead), delta.events) == (1, 0, 0, 1)
    assert delta.unknown == {"max_output_tokens": 1}
    assert delta.codecs == {}


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_add_up_also_where_a_record_has_events_of_several(shards):
    array = [json.loads(record(GOLDEN["litellm-success"])) | {"model_group": f"m{i}", "id": str(i)} for i in range(6)]
    delta, _ = folded([json.dumps(array).encode(), event(), event(), record(GOLDEN["otlp-no-requests"]), b"{"])
    parts = [decode(encode(part)) for part in split(delta, shards)]
    for name in ("records", "events", "duplicates", "ignored", "ignored_parts", "event_records", "reused_ids"):
        assert sum(getattr(part, name) for part in parts) == getattr(delta, name), name


def test_a_delta_of_version_1_is_read_as_version_2():
    delta = decode(V1.read_bytes())
    assert delta.schema == "tokentide.window-delta.v2"
    assert (delta.records, delta.events, delta.duplicates, delta.event_records, delta.ignored) == (5, 3, 1, 4, 0)
    assert len(delta.rows.measures) == len(MEASURES)
    assert sum(delta.rows.measures[MEASURES.index("input_tokens_unknown")]) == 0
    assert decode(encode(delta)) == delta


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"records":5', b'"records":6'), (b'"duplicates":1', b'"duplicates":2'), (b"delta.v1", b"delta.v3")],
)
def test_a_broken_delta_of_version_1_is_refused(old, new):
    text = V1.read_bytes()
    assert old in text
    with pytest.raises(CodecError):
        decode(text.replace(old, new))


def test_latencies_are_those_of_requests_served_to_the_end():
    names = ("ok", "cancelled", "error", "timeout")
    delta, _ = folded([event(event_id=s, status=s, ttft_seconds=0.5, tpot_seconds=0.01) for s in names])
    cells = delta.histograms
    for name in ("ttft_seconds", "tpot_seconds"):
        assert sum(n for metric, n in zip(cells.metric, cells.n, strict=True) if HISTOGRAMS[metric] == name) == 1
