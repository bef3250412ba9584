"""Recognition: by names that only one format has, with a refusal that says what a record looks like."""

import copy
import gzip
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs import registry
from pipeline.events.codecs.auto import AutoCodec
from pipeline.events.codecs.registry import codec_for, codec_named, codec_names
from pipeline.events.inspect import inspect_record
from pipeline.events.validation import EventLimits
from tests.unit.events.codecs.test_golden import GOLDEN, NOW, record

EVENT = {
    "event_id": "a",
    "model": "m",
    "arrived_at": NOW - 9,
    "e2e_seconds": 1.0,
    "input_tokens": 1,
    "output_tokens": 2,
    "status": "ok",
}


def refused(value, codec="auto"):
    found = inspect_record(value, codec_named(codec), EventLimits(), NOW)
    assert found.verdict == "refused"
    return found.detail


@pytest.mark.parametrize("name", GOLDEN)
def test_each_format_is_recognised_by_one_codec_only(name):
    record_ = registry.codec_named("auto")
    assert isinstance(record_, AutoCodec)
    from pipeline.events.codecs.base import RawRecord

    claimed = [codec.name for codec in record_.codecs if codec.recognises(RawRecord(record(GOLDEN[name])))]
    assert claimed == [GOLDEN[name]["codec"]]


@pytest.mark.parametrize("kind", ["tokentide.request.completed.v1", "com.example.request"])
def test_an_envelope_is_recognised_by_its_type_or_by_what_is_in_it(kind):
    envelope = {"specversion": "1.0", "id": "e", "source": "/x", "type": kind}
    found = inspect_record(json.dumps(envelope | {"data": EVENT}).encode(), codec_named("auto"), EventLimits(), NOW)
    assert (found.verdict, found.codec) == ("accepted", "native"), found.detail
    assert "no format is recognised" in refused(
        json.dumps(envelope | {"type": "com.example.order", "data": {"order": 7}}).encode()
    )


@pytest.mark.parametrize("name", [n for n in GOLDEN if GOLDEN[n]["codec"] != "native"])
def test_the_native_codec_names_the_format_and_what_to_set(name):
    assert f"codec = '{GOLDEN[name]['codec']}'" in refused(record(GOLDEN[name]), "native")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"log": json.dumps(EVENT) + "\n", "stream": "stdout", "kubernetes": {}}, "text inside `log`"),
        ({"message": json.dumps(EVENT), "@timestamp": 1}, "text inside `message`"),
        ({"schema": {"type": "struct"}, "payload": EVENT}, "Kafka Connect envelope"),
        ({"resourceMetrics": []}, "OTLP metrics or logs"),
        ({"object": "chat.completion.chunk", "id": "x"}, "one chunk of a streamed"),
        ({"schema": {"type": "struct"}, "payload": json.dumps(EVENT)}, "text inside `payload`"),
        (
            {"schema": {}, "payload": {"before": None, "after": EVENT, "op": "c"}},
            "send what is in `payload.after` alone",
        ),
        (
            {"before": None, "after": GOLDEN["litellm-success"]["record"], "op": "c"},
            "codec = 'litellm'); send what is in",
        ),
        ({"@timestamp": 1, "json": EVENT, "agent": {}}, "send what is in `json` alone"),
        ({"specversion": "1.0", "data": GOLDEN["envoy-ok"]["record"]}, "Envoy AI Gateway access log"),
        ({"records": [{"value": EVENT}]}, "send what is in `records[0].value` alone"),
        ({"logEvents": [{"id": "1", "message": json.dumps(EVENT)}]}, "parse `logEvents[0].message` as JSON first"),
        ({"log": "2026-01-01T00:00:00.1Z stdout F " + json.dumps(EVENT)}, "remove what stands before it"),
        ({"short_message": json.dumps(EVENT)}, "parse `short_message` as JSON first"),
        ({"resource_spans": []}, "write lowerCamelCase (resourceSpans)"),
        ([{"traceId": "1", "id": "2", "name": "chat m", "timestamp": 1, "duration": 2, "tags": {}}], "are not OTLP"),
        ({"traceId": "MQ==", "spanId": "Mg==", "operationName": "chat m", "duration": "1.5s"}, "are not OTLP"),
        ({"name": "chat m", "context": {"trace_id": "0x1"}, "end_time": "x"}, "export otlp_proto or otlp_json"),
        (json.dumps(EVENT), "JSON encoded twice"),
        (json.dumps(json.dumps([EVENT])), "JSON encoded twice"),
        ([EVENT, EVENT], "a list of 2"),
    ],
)
@pytest.mark.parametrize("codec", ["auto", "native"])
def test_what_cannot_be_read_is_named(value, hint, codec):
    assert hint in refused(json.dumps(value).encode(), codec)


def test_lines_in_one_record_and_metrics_are_named():
    line = json.dumps(EVENT).encode()
    assert "several JSON documents" in refused(line + b"\n" + line)
    assert "Prometheus exposition" in refused(b"# HELP x y\nx 1\n", "native")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (
            gzip.compress(json.dumps(EVENT).encode(), mtime=0),
            "a gzip file; send JSON and set compression on the producer",
        ),
        (b"\x28\xb5\x2f\xfd\x04\x00rest", "a zstd file"),
        (json.dumps(EVENT).encode("utf-16"), "UTF-16 or UTF-32; write UTF-8"),
        (json.dumps(EVENT).encode("utf-16-le"), "UTF-16 or UTF-32; write UTF-8"),
        (json.dumps(EVENT | {"user": "José"}, ensure_ascii=False).encode("latin-1"), "text that is not UTF-8"),
        (b"\x00\x00\x00\x00\x01\x02a\x02model", "Avro or Protobuf of a schema registry"),
        (str(EVENT).encode(), "write it by json.dumps"),
        (b"INFO 01-01 00:00:00 [logger.py:43] Received request cmpl-1: prompt: 'SECRET'", "a line of plain text"),
        (b'192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] "POST /v1/completions HTTP/1.1" 200 5', "a line of plain text"),
        (json.dumps(EVENT).encode() * 2, "several JSON documents in one record"),
    ],
)
@pytest.mark.parametrize("codec", ["auto", "native", "litellm"])
def test_bytes_that_are_no_json_are_named(value, hint, codec):
    assert hint in refused(value, codec)


def test_what_is_inside_an_envelope_is_looked_for_within_bounds():
    deep = EVENT
    for _ in range(5):
        deep = {"inner": deep}
    wide = {f"k{i}": {"n": i} for i in range(1_000)} | {"last": EVENT}
    for value in (deep, wide):
        assert "name their fields in a mapping" in refused(json.dumps(value).encode())


def test_usage_without_times_inside_a_log_line_is_no_event_to_send_alone():
    line = {"ai": {"proxy": {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}}, "started_at": 1, "latencies": {}}
    assert "name their fields in a mapping" in refused(json.dumps(line).encode())


def test_an_unknown_format_is_refused_with_its_names_but_not_its_values():
    detail = refused(json.dumps({"prompt": "SECRET", "weight": 3}).encode())
    assert "name their fields in a mapping (codec = 'mapping')" in detail
    assert "prompt, weight" in detail
    assert "SECRET" not in detail


def test_a_topic_may_mix_formats():
    values = [json.dumps(EVENT).encode(), record(GOLDEN["litellm-success"]), b"?", record(GOLDEN["envoy-ok"])]
    for order in (values, values[::-1]):
        columns, rejections, notes = decode_batch(order, [-1] * 4, NOW, EventLimits(), codec=codec_named("auto"))
        assert columns.index.tolist() == [i for i, value in enumerate(order) if value != b"?"]
        assert [r.position for r in rejections] == [order.index(b"?")]
        assert {"litellm", "envoy_ai_gateway"} <= {name for _, name in notes.codecs}


class Acme:
    name = "acme"
    title = "Acme log"

    def recognises(self, record_):
        return record_.is_object() and "acme" in record_.object()

    def decode(self, record_):
        raise ZeroDivisionError("a bug")


class Careless(Acme):
    def recognises(self, record_):
        return record_.object()["acme"] > 0


class Point:
    name = "acme"
    value = "acme:Acme"

    def __init__(self, loaded):
        self._loaded = loaded

    def load(self):
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def entry_point(monkeypatch):
    def offer(loaded):
        monkeypatch.setattr(registry, "entry_points", lambda group: [Point(loaded)] if group == registry.GROUP else [])
        codec_named.cache_clear()

    yield offer
    codec_named.cache_clear()


def test_an_outside_codec_is_found_and_its_faults_are_refusals(entry_point):
    entry_point(Acme)
    assert "acme" in codec_names()
    found = inspect_record(b'{"acme":1}', codec_named("acme"), EventLimits(), NOW)
    assert (found.verdict, found.reason) == ("refused", "malformed")
    assert "ZeroDivisionError" in found.detail


def test_an_outside_codec_that_fails_at_recognising_stops_nothing(entry_point):
    entry_point(Careless)
    auto = AutoCodec()
    value = json.dumps(EVENT).encode()
    columns, rejections, _ = decode_batch([b"[]", b"{}", value, b"7"], [-1] * 4, NOW, EventLimits(), codec=auto)
    assert (columns.index.tolist(), [r.position for r in rejections]) == ([2], [0, 1, 3])


@pytest.mark.parametrize(("loaded", "words"), [(ImportError("no lib"), "cannot be loaded"), (object, "lacks name")])
def test_an_outside_codec_that_is_none_is_a_configuration_error(entry_point, loaded, words):
    entry_point(loaded)
    with pytest.raises(ConfigError, match=words):
        codec_for("acme")


def test_an_unknown_codec_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"there is no codec 'vllm'; there are auto, .*litellm"):
        codec_for("vllm")


BAD = [
    b"{",
    b"{}",
    b'"text"',
    b'{"messages":"x"}',
    json.dumps({key: value for key, value in EVENT.items() if key != "event_id"}).encode(),
    json.dumps(EVENT | {"status": "fine"}).encode(),
    json.dumps(EVENT | {"input_tokens": -1}).encode(),
    record(GOLDEN["openai-usage-no-duration"]),
    b'{"object":[],"call_type":{}}',
]


@pytest.mark.parametrize("bad", BAD, ids=lambda value: value[:40].decode())
def test_why_a_record_is_refused_does_not_depend_on_its_neighbours(bad):
    found = set()
    for first in (json.dumps(EVENT).encode(), record(GOLDEN["litellm-success"]), bad):
        _, rejections, _ = decode_batch([first, bad], [-1] * 2, NOW, EventLimits(), codec=codec_named("auto"))
        found.add(tuple(rejections[-1][1:]))
    single = inspect_record(bad, codec_named("auto"), EventLimits(), NOW)
    assert found == {(single.reason, single.detail)}


def test_a_native_event_without_an_id_is_told_what_it_lacks():
    assert "missing required field `event_id`" in refused(BAD[4])


#: Values that emitters have written in the place of others.
ODD = (
    *(None, True, False, 0, -1, -0.0, 1.5, 1e300, 10**30, "", "-", "x", "NaN", "200", "-1", "\ud83d", "\0", "a" * 400),
    *([], [1], ["x"], [None], {}, {"a": 1}, math.nan, math.inf, "2026-01-01T00:00:00", 1767225600000),
    *({"values": [{}]}, {"stringValue": 5}, {"intValue": {}}, {"arrayValue": {"values": [{"stringValue": {}}]}}),
)


def places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*path, name)
        yield from places(inner, (*path, name))


def with_odd_values(record_, draw):
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(record_))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        inside = record_
        for name in path:
            inside = inside[name]
        inside[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return json.dumps(record_).encode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_odd_value_makes_a_codec_fail_and_one_record_reads_as_a_batch_does(data):
    golden = GOLDEN[data.draw(st.sampled_from(sorted(GOLDEN)))]
    value = with_odd_values(copy.deepcopy(golden["record"]), data.draw)
    for name in ("auto", golden["codec"], "native"):
        codec = codec_for(name, None, golden.get("defaults"))
        found = inspect_record(value, codec, EventLimits(), NOW)
        assert " failed: " not in (found.detail or "")
        columns, rejections, _ = decode_batch([value], [-1], NOW, EventLimits(), codec=codec)
        assert len(columns.index) == len(found.events)
        assert bool(rejections) == (found.verdict == "refused")
        json.dumps([found.events, found.detail], ensure_ascii=False, allow_nan=False).encode()
