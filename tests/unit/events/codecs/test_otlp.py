"""Spans: JSON and protobuf say the same, and one request counts once."""

import json

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from pipeline.events.codecs.base import RawRecord
from pipeline.events.codecs.otlp_spans import CLIENT, SERVER, SpanRecord, decoded
from pipeline.events.codecs.registry import codec_named
from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits
from pipeline.testing import check_codec
from tests.unit.events.codecs.test_golden import GOLDEN, NOW, SECRETS, record

SPANS = [name for name, golden in GOLDEN.items() if golden["codec"] == "otlp_json"]


def as_protobuf(traces):
    """The same batch as the collector's otlp_proto encoding writes it."""
    made = TracesData()
    for group in traces["resourceSpans"]:
        out = made.resource_spans.add()
        fill(out.resource.attributes, group["resource"]["attributes"])
        for scope in group["scopeSpans"]:
            spans = out.scope_spans.add().spans
            for span in scope["spans"]:
                to = spans.add(
                    trace_id=bytes.fromhex(span["traceId"]),
                    span_id=bytes.fromhex(span["spanId"]),
                    parent_span_id=bytes.fromhex(span["parentSpanId"]),
                    name=span["name"],
                    kind=span["kind"],
                    start_time_unix_nano=int(span["startTimeUnixNano"]),
                    end_time_unix_nano=int(span["endTimeUnixNano"]),
                )
                fill(to.attributes, span["attributes"])
                to.status.code = span["status"].get("code", 0)
                to.status.message = span["status"].get("message", "")
                for event in span["events"]:
                    to.events.add(name=event["name"], time_unix_nano=int(event["timeUnixNano"]))
    return made.SerializeToString()


def fill(to, attributes):
    names = {"stringValue": "string_value", "doubleValue": "double_value", "boolValue": "bool_value"}
    for attribute in attributes:
        ((kind, value),) = attribute["value"].items()
        out = to.add(key=attribute["key"]).value
        if kind == "intValue":
            out.int_value = int(value)
        elif kind == "arrayValue":
            for item in value["values"]:
                out.array_value.values.add(string_value=item["stringValue"])
        else:
            setattr(out, names[kind], value)


@pytest.mark.parametrize("name", SPANS)
def test_both_encodings_say_the_same(name):
    value = as_protobuf(GOLDEN[name]["record"])
    by_json = inspect_record(record(GOLDEN[name]), codec_named("otlp_json"), EventLimits(), NOW)
    for codec in ("otlp_proto", "auto"):
        found = inspect_record(value, codec_named(codec), EventLimits(), NOW)
        assert (found.verdict, found.events, found.unknown) == (by_json.verdict, by_json.events, by_json.unknown)
        assert found.codec == "otlp_proto"


def test_protobuf_keeps_the_contract():
    accepted = [name for name in SPANS if GOLDEN[name]["expect"]["verdict"] == "accepted"]
    samples = [as_protobuf(GOLDEN[name]["record"]) for name in accepted]
    check_codec(codec_named("otlp_proto"), samples, private=SECRETS)


@pytest.mark.parametrize("value", [b"\n{}", b"\n\n{}", b"\n[1]\n", b"\x0a", b"\x0a\x05hello"])
def test_json_behind_a_line_feed_is_no_protobuf(value):
    assert not codec_named("otlp_proto").recognises(RawRecord(value))


def span(name, span_id, parent="", kind=CLIENT, start=100.0, end=105.0, trace="t", **attributes):
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"} | attributes
    return SpanRecord(trace, span_id, parent, name, kind, start, end, given, {})


def counted(*spans):
    found = decoded(spans, len(spans), lambda: {(s.trace_id, s.span_id): s.parent_id for s in spans})
    return [event["event_id"].removeprefix("t-") for event in found.events], found.ignored_parts


def test_a_request_seen_by_client_and_server_counts_where_it_was_served():
    client, server = span("chat", "c"), span("chat", "s", "c", SERVER, 100.1, 104.9)
    assert counted(client, server) == (["s"], 1)
    assert counted(server, client) == (["s"], 1)


def test_also_with_other_spans_between_them_or_missing():
    http = SpanRecord("t", "h", "c", "POST", CLIENT, 100.0, 105.0, {}, {})
    assert counted(span("chat", "c"), http, span("chat", "s", "h", SERVER)) == (["s"], 2)
    assert counted(span("chat", "c"), span("chat", "s", "gone", SERVER)) == (["s"], 1)


def test_requests_side_by_side_in_a_trace_all_count():
    assert counted(span("chat", "a", "root"), span("chat", "b", "root")) == (["a", "b"], 0)
    later = span("chat", "s", "x", SERVER, 300.0, 301.0)
    assert counted(span("chat", "c"), later) == (["c", "s"], 0)


def test_spans_that_are_each_others_parents_end():
    assert counted(span("chat", "a", "b"), span("chat", "b", "a"))[1] <= 2


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "create_agent", "rerank"])
def test_what_is_no_request_to_a_model_is_ignored(operation):
    assert counted(span("x", "a", **{"gen_ai.operation.name": operation})) == ([], 1)


def test_one_bad_span_costs_no_other():
    golden = json.loads(json.dumps(GOLDEN["otlp-old-names-and-errors"]["record"]))
    golden["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] = "soon"
    found = inspect_record(json.dumps(golden).encode(), codec_named("otlp_json"), EventLimits(), NOW)
    assert (found.verdict, len(found.events), found.reason) == ("accepted", 3, "missing_field")


def odd(**changes):
    """A batch with one good request span, and one that is changed."""
    golden = GOLDEN["otlp-openinference"]["record"]
    (good, *_) = golden["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return {"resourceSpans": [{"scopeSpans": [{"spans": [good, good | {"spanId": "f" * 16} | changes]}]}]}


def attributes(**named):
    return [{"key": name.replace("__", "."), "value": value} for name, value in named.items()]


@pytest.mark.parametrize(
    "changed",
    [
        {"attributes": attributes(gen_ai__operation__name={"stringValue": {"a": 1}})},
        {"attributes": attributes(gen_ai__operation__name={"arrayValue": {"values": [{"stringValue": "chat"}]}})},
        {"attributes": attributes(gen_ai__operation__name={"kvlistValue": {}})},
        {"attributes": None},
    ],
)
def test_a_span_with_odd_attributes_costs_no_other(changed):
    found = inspect_record(json.dumps(odd(**changed)).encode(), codec_named("otlp_json"), EventLimits(), NOW)
    assert (found.verdict, len(found.events), found.reason) == ("accepted", 1, None), found.detail


def test_spans_with_a_text_that_was_cut_within_a_character_are_read():
    value = json.dumps(odd(name="cut ?")).replace("cut ?", "cut \\ud83d").encode()
    found = inspect_record(value, codec_named("otlp_json"), EventLimits(), NOW)
    assert (found.verdict, len(found.events)) == ("accepted", 2), found.detail


@pytest.mark.parametrize(("unit", "words"), [(1e3, "divided by 1000000"), (1e6, "divided by 1000")])
def test_times_in_another_unit_than_nanoseconds_are_named(unit, words):
    times = {"startTimeUnixNano": str(int((NOW - 2) * unit)), "endTimeUnixNano": str(int((NOW - 1) * unit))}
    found = inspect_record(json.dumps(odd(**times)).encode(), codec_named("otlp_json"), EventLimits(), NOW)
    assert len(found.events) == 1
    assert words in found.detail


def test_the_spans_of_a_long_chain_are_each_looked_at_once():
    spans = [
        SpanRecord("t", f"{i}", f"{i - 1}", "chat", CLIENT, NOW - 9, NOW - 8, {"gen_ai.operation.name": "chat"}, {})
        for i in range(1, 5_001)
    ]
    asked = 0

    class Counting(dict):
        def get(self, key, default=None):
            nonlocal asked
            asked += 1
            return super().get(key, default)

    found = decoded(spans, len(spans), lambda: Counting({("t", s.span_id): s.parent_id for s in spans}))
    assert [event["event_id"] for event in found.events] == ["t-5000"]
    assert asked <= len(spans)
