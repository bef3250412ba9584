"""Batches of OTLP protobuf: what is read together, what is left to the ordinary way, and that nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from benchmarks.codecs.records import as_collector_writes
from pipeline.events.batch_decoder import DecodedBatch, decode_batch
from pipeline.events.codecs.otlp_batch import MIN_SPANS
from pipeline.events.codecs.otlp_layout import learn
from pipeline.events.codecs.registry import codec_for
from pipeline.events.validation import EventLimits
from tests.unit.events.codecs.test_golden import NOW

MANY = 2 * MIN_SPANS
CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "llama",
    "gen_ai.request.stream": True,
    "tokentide.pool": "chat",
    "gen_ai.prompt": "SECRET",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.response.time_to_first_chunk": 0.5,
}


def span(number: int, attributes: dict[str, Any], **other: Any) -> Span:
    start = int((NOW - 60) * 1e9) + number
    fields: dict[str, Any] = {
        "trace_id": number.to_bytes(16, "big"),
        "span_id": number.to_bytes(8, "big"),
        "name": "chat",
        "kind": 3,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + 2_000_000_000,
    }
    made = Span(**fields | other)
    for name, value in attributes.items():
        kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
        setattr(made.attributes.add(key=name).value, kind, value)
    return made


def record(*spans: Span, server: str = "gw-1") -> bytes:
    traces = TracesData()
    group = traces.resource_spans.add()
    group.resource.attributes.add(key="service.instance.id").value.string_value = server
    group.scope_spans.add().spans.extend(spans)
    return bytes(traces.SerializeToString())


def together(values: list[bytes], codec: str = "otlp_proto", **defaults: str) -> Any:
    """What is read at once; None: nothing."""
    reader: Any = codec_for(codec, None, defaults)
    return reader.decode_together(values, ())


def decoded(values: list[bytes], codec: str = "otlp_proto", **defaults: str) -> DecodedBatch:
    return decode_batch(values, [-1] * len(values), NOW, EventLimits(), codec=codec_for(codec, None, defaults))


def test_spans_of_many_records_are_read_together() -> None:
    values = [record(span(i, CHAT | {"gen_ai.usage.input_tokens": 50 * i})) for i in range(1, MANY)]
    for codec in ("otlp_proto", "auto"):
        assert together(values, codec).taken.all()
        columns, rejections, notes = decoded(values, codec)
        assert columns.input_tokens.tolist() == [50 * i for i in range(1, MANY)]
        assert columns.tpot.tolist() == [(e2e - 0.5) / 6 for e2e in columns.e2e]
        assert (rejections, notes.ignored) == ([], [])
        assert notes.codecs == [(i, "otlp_proto") for i in range(len(values))]
        assert {columns.keys[k][:2] for k in columns.key} == {("llama", "chat")}


def test_a_record_of_many_spans_is_read_together() -> None:
    http = {"http.request.method": "POST"}
    spans = [span(i, CHAT if i % 2 else http, kind=3 if i % 2 else 2) for i in range(1, 2 * MANY + 1)]
    (columns, _, notes) = decoded([record(*spans)])
    assert len(columns) == MANY
    assert (notes.ignored_parts, notes.ignored) == ([(0, MANY)], [])
    assert together([record(*spans)]).taken.all()


def test_few_spans_are_read_one_by_one() -> None:
    assert together([record(span(1, CHAT))]) is None
    assert len(decoded([record(span(1, CHAT))]).columns) == 1


def test_spans_that_are_all_different_are_read_one_by_one() -> None:
    values = [record(span(i, CHAT | {f"own{i}": 1})) for i in range(1, MANY)]
    assert together(values) is None
    assert len(decoded(values).columns) == len(values)


def test_classes_differ_in_model_pool_and_server() -> None:
    values = [
        record(
            span(i, CHAT | {"gen_ai.request.model": f"m{i % 3}", "tokentide.pool": f"p{i % 2}"}, kind=2),
            server=f"s{i % 4}",
        )
        for i in range(1, MANY)
    ]
    columns = decoded(values).columns
    assert [columns.keys[k][:2] for k in columns.key] == [(f"m{i % 3}", f"p{i % 2}") for i in range(1, MANY)]
    assert [columns.servers[s] for s in columns.server_name] == [f"s{i % 4}" for i in range(1, MANY)]
    assert len(set(columns.server.tolist())) == 4


def test_what_a_source_adds_holds_for_its_own_batches_only() -> None:
    nameless = {name: value for name, value in CHAT.items() if name != "tokentide.pool"}
    values = [record(span(i, nameless)) for i in range(1, MANY)]
    for pool in ("a", "b"):
        assert together(values, pool=pool).taken.all()
        columns = decoded(values, pool=pool).columns
        assert {columns.keys[k].pool for k in columns.key} == {pool}
    assert {key.pool for key in decoded(values).columns.keys} == {"default"}


def test_unusual_records_are_left_and_judged_by_themselves() -> None:
    usual = [record(span(i, CHAT)) for i in range(1, MANY)]
    broken = record(span(MANY, CHAT))[:-3]
    twice = record(span(MANY + 1, CHAT), span(MANY + 2, CHAT, trace_id=(MANY + 1).to_bytes(16, "big"), kind=2))
    nothing = record(span(MANY + 3, {"db.system": "x"}))
    nameless = record(span(MANY + 4, {name: value for name, value in CHAT.items() if "model" not in name}))
    values = [*usual, broken, twice, nothing, nameless]
    found = together(values)
    n = len(usual)
    assert found.taken.tolist() == [True] * n + [False, False, True, True]
    columns, rejections, notes = decoded(values)
    assert columns.index.tolist() == [*range(n), n + 1]  # of two that are one request one counts
    assert [(r.position, r.reason) for r in rejections] == [(n, "malformed"), (n + 3, "missing_field")]
    assert notes.ignored == [n + 2]


UNTIMED = {name: value for name, value in CHAT.items() if "first_chunk" not in name} | {"gen_ai.response.id": "id"}


@pytest.mark.parametrize("collected", [False, True], ids=["sdk", "collector"])
@pytest.mark.parametrize(
    ("other", "changed", "to"),
    [
        ({"gen_ai.usage.output_tokens": 10_000_001}, b"", b""),
        ({"gen_ai.usage.output_tokens": -1}, b"", b""),
        ({"gen_ai.usage.output_tokens": 2**40}, b"", b""),
        ({"gen_ai.response.time_to_first_chunk": -1.0}, b"", b""),
        ({"gen_ai.request.max_tokens": 10_000_001}, b"", b""),
        ({}, b"*\x04chat", b"*\x04c\xff\xffh"),  # the span's name is not UTF-8
        ({}, b"\x02id", b"\x02\xff\xff"),
        ({}, b"llama", b"\xff\xff\xff\xff\xff"),
        ({}, b"\x06SECRET", b"\x07SECRET"),  # a length that does not fit, in what nobody reads
        ({}, b"\x0a\x06SECRET", b"\x0a\x06SEC\xffET"),
        ({}, b"\x12\x08\x0a\x06SECRET", b"\x12\x07\x0a\x06SECRET"),
        ({}, b"\x18\x07", b"\x18\x87"),
        ({}, b"\x10\x01", b"\x10\x02"),
        ({}, b"\x10\x01", b"\x18\x01"),
        ({}, b"\x10\x01", b"\x0a\x00"),  # a text, where there is true or false
        ({}, b"gen_ai.prompt", b"gen_ai.prom\xff\xff"),
    ],
)
def test_an_odd_span_among_others_is_judged_as_it_is_alone(
    other: dict[str, Any], changed: bytes, to: bytes, collected: bool
) -> None:
    def written(number: int, more: dict[str, Any]) -> bytes:
        attributes = UNTIMED | {name: 1.0 if "first" in name else 1 for name in other} | more
        traces = TracesData.FromString(record(span(number, attributes)))
        return as_collector_writes(traces) if collected else bytes(traces.SerializeToString())

    odd = written(MANY, other)
    assert changed in odd
    odd = odd.replace(changed, to) if changed else odd
    usual = [written(i, {}) for i in range(1, MANY)]
    judged_among_others(usual, odd)


def judged_among_others(usual: list[bytes], odd: bytes) -> None:
    """Check that a record comes out of a batch of others, which are read together, as it does by itself."""
    last = len(usual)
    assert together([*usual, odd]).taken[:last].all()
    alone, rejections, notes = decoded([odd])
    columns, all_rejections, all_notes = decoded([*usual, odd])
    mine = columns.take(columns.index == last)
    assert [(r.reason, r.detail) for r in all_rejections] == [(r.reason, r.detail) for r in rejections]
    assert (last in all_notes.ignored) == (0 in notes.ignored)
    assert [name for _, name in all_notes.unknown] == [name for _, name in notes.unknown]
    for name in ("arrived_at", "e2e", "ttft", "tpot", "input_tokens", "output_tokens", "status", "ids"):
        assert repr(getattr(mine, name).tolist()) == repr(getattr(alone, name).tolist())
    assert [columns.keys[k] for k in mine.key] == [alone.keys[k] for k in alone.key]


@pytest.mark.parametrize(
    "more",
    [
        {"events": [Span.Event(name="gen_ai.first_token", time_unix_nano=int((NOW - 59) * 1e9))]},
        {"status": {"code": 2, "message": "429"}},
        {"name": "llm_request"},
        {"end_time_unix_nano": 0},
        {"end_time_unix_nano": int((NOW - 61) * 1e9)},
        {"trace_id": b"short"},
        {"links": [Span.Link(trace_id=b"x" * 16)]},
        {"dropped_attributes_count": 300},
    ],
)
def test_a_span_with_another_field_is_judged_as_it_is_alone(more: dict[str, Any]) -> None:
    nameless = {name: value for name, value in UNTIMED.items() if "operation" not in name}
    for attributes in (UNTIMED, nameless | {"gen_ai.system": "x"}, {"gen_ai.request.model": "m"}):
        usual = [record(span(i, attributes)) for i in range(1, MANY)]
        judged_among_others(usual, record(span(MANY, attributes, **more)))


def test_a_record_that_is_not_protobuf_is_left() -> None:
    values = [record(span(i, CHAT)) for i in range(1, MANY)]
    native = (
        b'{"event_id":"a","model":"m","status":"ok","input_tokens":1,"output_tokens":1,"arrived_at":1,"e2e_seconds":1}'
    )
    found = together([*values, native, b""], "auto")
    assert found.taken.tolist() == [True] * len(values) + [False, False]
    as_json = b'{"resourceSpans":[]}'
    assert together([*values, as_json], "auto") is None  # it is asked for first


def test_a_codec_that_fails_at_a_batch_costs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("pipeline.events.codecs.otlp_proto.decode_together", failing)
    values = [record(span(i, CHAT)) for i in range(1, MANY)]
    assert len(decoded(values).columns) == len(values)


def test_spans_from_the_future_are_refused_each() -> None:
    values = [record(span(i, CHAT)) for i in range(1, MANY)]
    late = decode_batch(values, [-1] * len(values), NOW - 3_600, EventLimits(), codec=codec_for("otlp_proto"))
    assert {r.reason for r in late.rejections} == {"from_future"}
    assert len(late.rejections) == len(values)


@pytest.mark.parametrize(
    "odd",
    [
        span(1, CHAT | {"gen_ai.usage.output_tokens": 7.5}),
        span(1, CHAT | {"gen_ai.response.id": "x" * 200}),
        span(1, CHAT | {"langfuse.observation.usage_details": "{}"}),
        span(1, CHAT, trace_id=b"short"),
        span(1, CHAT, start_time_unix_nano=0),
        span(1, CHAT, events=[Span.Event(name="gen_ai.first_token")]),
    ],
)
def test_what_is_too_odd_has_no_layout(odd: Span) -> None:
    assert learn(odd.SerializeToString()) is None
    assert learn(span(1, CHAT).SerializeToString()) is not None
