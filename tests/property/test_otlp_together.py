"""Spans read together by layout come out as they do one by one, bit for bit, whatever is in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from benchmarks.codecs.records import as_collector_writes
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs import otlp_batch
from pipeline.events.codecs.base import DecodesTogether
from pipeline.events.codecs.otlp_names import ATTRIBUTES
from pipeline.events.codecs.registry import codec_for
from pipeline.events.columns import EventColumns
from pipeline.events.servers import sampled_rows
from pipeline.events.validation import EventLimits
from tests.unit.events.codecs.test_golden import GOLDEN, NOW
from tests.unit.events.codecs.test_otlp import SPANS, as_protobuf, fill

FIELD = Path(__file__).parents[3] / "shared" / "field" / "otlp"
FIELD_NOW = 1_795_984_400.0
LIMITS = EventLimits()

TEXT = st.sampled_from(["", "m", "chat", "llama-3.1-8b", "é", "x" * 120, "y" * 130, "z" * 300, "\x00", "ok", "429"])
NUMBER = st.integers(-3, 3) | st.sampled_from([127, 128, 16_383, 16_384, 10_000_000, 10_000_001, 2**28, 2**40, -1])
SECONDS = st.floats(-1, 100) | st.sampled_from([0.0, -0.0, 86_400.0, 86_401.0, float("nan"), float("inf"), 5e-324])
ANY = TEXT | NUMBER | SECONDS | st.booleans() | st.lists(TEXT, max_size=2)
OPERATIONS = st.sampled_from(["chat", "chat", "chat", "embeddings", "execute_tool", "CHAT", "unknown", ""])

#: What instrumentations send together, with values as they usually are.
VOCABULARIES: tuple[dict[str, Any], ...] = (
    {
        "gen_ai.operation.name": OPERATIONS,
        "gen_ai.provider.name": st.sampled_from(["openai", "vllm"]),
        "gen_ai.request.model": st.sampled_from(["llama", "qwen", "llama-3.1-8b-instruct"]),
        "gen_ai.request.max_tokens": st.integers(1, 300),
        "gen_ai.request.stream": st.booleans(),
        "server.address": TEXT,
        "tokentide.pool": st.sampled_from(["chat", "batch"]),
        "tokentide.tenant": st.sampled_from(["a", "b"]),
        "gen_ai.response.id": st.from_regex(r"chatcmpl-[0-9a-f]{0,40}", fullmatch=True),
        "gen_ai.response.finish_reasons": st.sampled_from([["stop"], ["length"], ["abort"]]),
        "gen_ai.input.messages": st.text(max_size=300),
        "gen_ai.usage.input_tokens": st.integers(0, 40_000),
        "gen_ai.usage.output_tokens": st.integers(0, 300),
        "gen_ai.usage.cache_read.input_tokens": st.integers(0, 200),
        "gen_ai.response.time_to_first_chunk": st.floats(0, 3),
    },
    {
        "gen_ai.latency.e2e": st.floats(0, 9),
        "gen_ai.latency.time_in_queue": st.floats(0, 1),
        "gen_ai.latency.time_to_first_token": st.integers(0, 2) | st.floats(0, 2),
        "gen_ai.latency.time_in_model_prefill": st.floats(0, 3),
        "gen_ai.usage.prompt_tokens": st.integers(0, 4_000),
        "gen_ai.usage.completion_tokens": st.integers(0, 4_000),
        "gen_ai.request.id": TEXT,
        "gen_ai.request.n": st.integers(1, 2),
    },
    {
        "ai.response.msToFirstChunk": st.floats(0, 900),
        "gen_ai.response.time_to_first_chunk": st.floats(0, 2),
        "gen_ai.response.model": st.sampled_from(["a", "b"]),
        "gen_ai.system": st.just("x"),
        "gen_ai.usage.input_tokens": st.integers(0, 4_000),
        "gen_ai.usage.prompt_tokens": st.integers(0, 4_000),
        "http.response.status_code": st.sampled_from([200, 429, 500]),
        "error.type": st.sampled_from(["timeout", "429", "RateLimit"]),
    },
    {
        "http.request.method": st.sampled_from(["GET", "POST"]),
        "url.path": TEXT,
        "http.response.status_code": st.sampled_from([200, 404]),
    },
)
RESOURCES: tuple[dict[str, Any], ...] = (
    {},
    {"service.name": "gateway", "service.instance.id": "gw-1"},
    {"service.name": "vllm", "service.instance.id": "v-2", "tokentide.model": "m", "k8s.deployment.name": "d"},
)


def plain(to: Any, values: dict[str, Any]) -> None:
    def value(one: Any) -> dict[str, Any]:
        if isinstance(one, list):
            return {"arrayValue": {"values": [{"stringValue": text} for text in one]}}
        kind = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}[type(one)]
        return {kind: one}

    fill(to, [{"key": name, "value": value(one)} for name, one in values.items()])


class Kind(NamedTuple):
    """What the spans of one instrumentation have in common: attributes in their order, how each is drawn, what those
    of few values usually are, and other fields."""

    names: list[str]
    vocabulary: dict[str, Any]
    usual: dict[str, Any]
    common: dict[str, Any]


def is_number(name: str) -> bool:
    return any(word in name for word in ("tokens", "latency", "time_to", "msTo"))


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    vocabulary = draw(st.sampled_from(VOCABULARIES))
    names = draw(st.permutations([name for name in vocabulary if draw(st.integers(0, 5))]))
    common = {
        "name": draw(st.sampled_from(["chat", "llm_request", "POST /v1", ""])),
        "kind": draw(st.sampled_from([0, 2, 3, 3])),
        "flags": draw(st.sampled_from([0, 0, 256])),
        "trace_state": draw(st.sampled_from(["", "a=b"])),
    }
    return Kind(names, vocabulary, {name: draw(vocabulary[name]) for name in names if not is_number(name)}, common)


@st.composite
def spans(draw: st.DrawFn, kind: Kind) -> Span:
    start = int((NOW - draw(st.sampled_from([60] * 9 + [1e7, -400]))) * 1e9) + draw(st.integers(0, 10**9))
    span = Span(
        trace_id=bytes([draw(st.integers(0, 255))]) * draw(st.sampled_from([16] * 24 + [0, 8])),
        span_id=draw(st.integers(0, 2**64 - 1)).to_bytes(8, "big"),
        parent_span_id=draw(st.sampled_from([b"", b"12345678"])),
        start_time_unix_nano=draw(st.sampled_from([start] * 24 + [0, 5])),
        end_time_unix_nano=draw(st.sampled_from([start + 6_400_000_000] * 24 + [0, start - 10**8, 2**64 - 1])),
        **kind.common,
    )
    own = draw(st.sampled_from([0, 0, 0, 1]))  # spans of which all attributes are their own
    values = {n: draw(kind.vocabulary[n]) if own or is_number(n) else kind.usual[n] for n in kind.names}
    odd = draw(st.integers(0, 24))
    if odd == 0:
        values[draw(st.sampled_from(sorted(ATTRIBUTES)))] = draw(ANY)
    elif odd in (1, 2, 3) and values:
        values[draw(st.sampled_from(kind.names))] = draw(ANY)
    elif odd in (4, 5):
        span.events.add(name="gen_ai.first_token", time_unix_nano=start + 10**9)
    elif odd == 6:
        span.name = draw(TEXT) or "llm_request"
    elif odd == 7:
        span.dropped_attributes_count = draw(st.integers(0, 300))
    elif odd == 8:
        plain(span.attributes, {draw(st.sampled_from(sorted(ATTRIBUTES))): draw(ANY)})
    elif odd == 9:
        span.links.add(trace_id=b"x" * 16)
    plain(span.attributes, values)
    if draw(st.integers(0, 6)) == 0:
        span.status.code = draw(st.sampled_from([0, 1, 2]))
        span.status.message = draw(TEXT)
    return span


@st.composite
def batches(draw: st.DrawFn) -> list[bytes | None]:
    common = draw(st.lists(kinds(), min_size=1, max_size=2))
    collected = draw(st.booleans())
    values: list[bytes | None] = []
    for _ in range(draw(st.integers(2, 10))):
        traces = TracesData()
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            group = traces.resource_spans.add(schema_url=draw(st.sampled_from(["", "https://x"])))
            plain(group.resource.attributes, draw(st.sampled_from(RESOURCES)))
            for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2]))):
                scope = group.scope_spans.add()
                scope.scope.name = "s"
                for _ in range(draw(st.integers(0, 4))):
                    scope.spans.append(draw(spans(draw(st.sampled_from(common)))))
        value = as_collector_writes(traces) if collected else traces.SerializeToString()
        what = draw(st.integers(0, 24))
        if what == 0:
            value = value[: draw(st.integers(0, len(value)))]
        elif what in (1, 2) and value:
            changed = bytearray(value)
            changed[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
            value = bytes(changed)
        elif what == 3:
            value += draw(st.sampled_from([value, b"\x0a", b"\x0a\x00", b"{}", b"\x12\x02ab"]))
        elif what == 4:
            value = draw(st.sampled_from([b"{", b"", b"\x00\x00\x00\x00\x01" + value, b"\xef\xbb\xbf" + value]))
        values.append(None if what == 24 else value)
    if len(values) > 3 and draw(st.booleans()):  # two halves that would make up for each other
        whole = values[0] or b""
        cut = draw(st.integers(0, len(whole)))
        values[1:3] = [whole[:cut], whole[cut:]]
    return values


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_batch, "MIN_SPANS", 1)
    monkeypatch.setattr(otlp_batch, "MIN_READ", 0.0)


def decoded(
    values: list[bytes | None], codec: str, defaults: dict[str, Any], dimensions: tuple[str, ...], now: float = NOW
) -> Any:
    columns, refused, notes = decode_batch(
        values, [-1] * len(values), now, LIMITS, dimensions, codec=codec_for(codec, None, defaults)
    )
    rows = sampled_rows(len(columns)).tolist()
    apart = ("key", "keys", "server_name", "servers")
    found: dict[str, Any] = {
        f.name: getattr(columns, f.name).tolist() for f in fields(EventColumns) if f.name not in apart
    }
    return (
        {name: [repr(value) for value in column] for name, column in found.items()},
        [columns.keys[k] for k in columns.key.tolist()],
        [columns.servers[code] if code >= 0 else None for code in columns.server_name[rows].tolist()],
        refused,
        [Counter(note) for note in notes],
    )


def both_ways(
    values: list[bytes | None], codec: str, defaults: dict[str, Any], dimensions: tuple[str, ...], now: float = NOW
) -> tuple[Any, Any]:
    together = decoded(values, codec, defaults, dimensions, now)
    least, otlp_batch.MIN_SPANS = otlp_batch.MIN_SPANS, 1 << 40
    try:
        return together, decoded(values, codec, defaults, dimensions, now)
    finally:
        otlp_batch.MIN_SPANS = least


@settings(deadline=None, max_examples=300)
@given(
    batches(),
    st.sampled_from(["otlp_proto", "auto"]),
    st.sampled_from([{}, {"model": "given"}, {"model": "given", "pool": "p"}]),
    st.sampled_from([(), ("tenant",), ("tenant", "region")]),
)
def test_same_as_one_by_one(
    values: list[bytes | None], codec: str, defaults: dict[str, Any], dimensions: tuple[str, ...]
) -> None:
    reader = codec_for(codec, None, defaults)
    assert isinstance(reader, DecodesTogether)
    reader.decode_together([value or b"" for value in values], dimensions)  # raises nothing
    together, apart = both_ways(values, codec, defaults, dimensions)
    assert together == apart


@pytest.mark.parametrize("codec", ["otlp_proto", "auto"])
def test_recorded_spans_come_out_the_same(codec: str) -> None:
    values: list[bytes | None] = [as_protobuf(GOLDEN[name]["record"]) for name in SPANS for _ in range(3)]
    together, apart = both_ways(values, codec, {}, ())
    assert together == apart
    assert len(together[1]) > 20


@pytest.mark.skipif(not FIELD.is_dir(), reason="../shared/field is missing")
def test_spans_of_a_real_collector_come_out_the_same() -> None:
    import json

    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FIELD.glob("*.json"))]
    for record in records:
        for group in record["resourceSpans"]:
            for scope in group["scopeSpans"]:
                for span in scope["spans"]:
                    span.setdefault("events", [])
                    span.setdefault("parentSpanId", "")
    values: list[bytes | None] = [as_protobuf(record) for record in records for _ in range(3)]
    together, apart = both_ways(values, "otlp_proto", {}, (), FIELD_NOW)
    assert together == apart
    assert len(together[1]) == len(values)
