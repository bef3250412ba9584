"""Records read together by shape come out as they do one by one, bit for bit, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.events import columnar_json as columnar
from pipeline.events import json_shapes as shapes
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.byte_columns import Buffer
from pipeline.events.columns import EventColumns
from pipeline.events.json_shapes import learn, narrow, read
from pipeline.events.servers import sampled_rows
from pipeline.events.sliced_values import SlicedValues
from pipeline.events.validation import EventLimits

NOW = 1_790_000_100.0
LIMITS = EventLimits()

PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=40)
ODD_TEXT = st.sampled_from(
    [
        "",
        "é",
        "a\\u0041",
        'x\\"y',
        "\t",
        "\x7f",
        "a" * 256,
        "a" * 257,
        "b" * 300,
        "€" * 175,
        "🜂" * 256,
        " ",
        "null",
        "{}",
    ]
)
TEXT = PLAIN | ODD_TEXT
NUMBER = st.one_of(
    st.integers(0, 20_000_000).map(str),
    st.floats(0, 100_000, allow_nan=False).map(repr),
    st.decimals(0, 90_000, places=3).map(str),
    st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(
        ["0", "00", "01", "0.", ".5", "-0", "-1", "1e3", "0.0", "86400", "86400.001", "10000000", "10000001"]
    ),
    st.sampled_from(
        ["0.12345678", "0.123456789", "9007199254740993", "123456789012345", "0.1234567890123456", "1,2", ""]
    ),
    st.sampled_from(["null", "true", '"7"', "1 ", " 1", "NaN", "1/2", "1:2", "١"]),
)
TIME = st.one_of(
    st.floats(NOW - 500, NOW).map(repr),
    st.decimals(int(NOW) - 500, int(NOW), places=3).map(str),
    st.integers(int(NOW) - 500, int(NOW)).map(str),
    st.sampled_from(["1790000000.1234567", "1790000000.12345678", "1790000000.123456789", '"2026-09-21T14:13:20Z"']),
    NUMBER,
)

MEMBERS = (
    ("event_id", "text"),
    ("model", "text"),
    ("pool", "text"),
    ("completed_at", "time"),
    ("arrived_at", "time"),
    ("e2e_seconds", "number"),
    ("ttft_seconds", "number"),
    ("queue_seconds", "number"),
    ("input_tokens", "number"),
    ("cached_input_tokens", "number"),
    ("output_tokens", "number"),
    ("status", "status"),
    ("tenant", "text"),
    ("http_status", "number"),
    ("stream", "literal"),
    ("labels", "nested"),
    ("unknown", "text"),
    ("region", "text"),
    ("long", "long"),
)
USUAL = {
    "completed_at": "1790000050.250",
    "arrived_at": "1790000049.125",
    "e2e_seconds": "1.125",
    "ttft_seconds": "0.25",
    "queue_seconds": "0.004",
    "input_tokens": "120",
    "cached_input_tokens": "40",
    "output_tokens": "77",
    "http_status": "200",
}


def event(**members: Any) -> bytes:
    base = {"event_id": "a", "model": "m", "input_tokens": 1, "output_tokens": 2, "status": "ok"}
    return json.dumps({**base, "completed_at": NOW - 9, "e2e_seconds": 1.0, **members}).encode()


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """The members that all records of a batch have, in their order, most of them not needed."""
    needed = {"event_id", "model", "input_tokens", "output_tokens", "status", "completed_at", "e2e_seconds"}
    kept = [m for m in MEMBERS if m[0] in needed or draw(st.booleans())]
    long = "k" * draw(
        st.integers(200, 260) | st.integers(1_750, 1_800)
    )  # a piece of the shape that is about as long as one may be
    kept = [(long if name == "long" else name, kind) for name, kind in kept]
    return draw(st.permutations(kept))


def value_of(draw: st.DrawFn, name: str, kind: str, usual: bool) -> str:
    if kind == "text":
        return '"%s"' % (draw(st.sampled_from(["a", "bb", "pool-17", "req-0000000000000017"])) if usual else draw(TEXT))
    if kind == "status":
        return '"ok"' if usual else draw(st.sampled_from(['"ok"', '"error"', '"odd"', '"timeout"']))
    if kind == "nested":
        return '{"a":[1,"x"],"b":{"c":"%s"}}' % ("y" if usual else draw(TEXT))
    if kind == "long":
        return "null" if usual else draw(st.sampled_from(["true", "0", '"a"']))
    if kind == "literal":
        return "true" if usual else draw(st.sampled_from(["true", "false", "null", "1"]))
    return USUAL[name] if usual else draw(TIME if kind == "time" else NUMBER)


@st.composite
def batches(draw: st.DrawFn) -> list[bytes | None]:
    common = draw(members())
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    values: list[bytes | None] = []
    for _ in range(draw(st.integers(2, 12))):
        odd = draw(st.sampled_from([(), (), *[(name,) for name, _ in common]]))
        body = comma.join(f'"{n}"{colon}{value_of(draw, n, k, n not in odd)}' for n, k in common)
        value = ("{" + body + "}").encode("utf-8", "surrogatepass")
        what = draw(st.integers(0, 31))
        if what == 0:
            value = value[: draw(st.integers(0, len(value)))]
        elif what == 1:
            at = draw(st.integers(0, len(value) - 1))
            value = value[:at] + bytes([draw(st.integers(0, 255))]) + value[at + 1 :]
        elif what == 2:
            value += draw(st.sampled_from([b" ", b",", b"}", value]))
        elif what == 31:
            value = draw(st.sampled_from([b"1", b"{", event(event_id="€" * 256), event(event_id="a")]))
        values.append(None if what == 3 else value)
    if len(values) > 3 and draw(st.booleans()):  # two halves that would make up for each other
        whole = values[0] or b""
        cut = draw(st.integers(0, len(whole)))
        values[1:3] = [whole[:cut], whole[cut:]]
    return values


def comparable(columns: EventColumns) -> dict[str, Any]:
    apart = ("key", "keys", "server", "servers")
    found: dict[str, Any] = {
        f.name: getattr(columns, f.name).tobytes() for f in fields(EventColumns) if f.name not in apart
    }
    servers = [columns.servers[code] if code >= 0 else None for code in columns.server[sampled_rows(len(columns))]]
    return found | {"keys": [columns.keys[k] for k in columns.key.tolist()], "servers": servers}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "MIN_OF_A_SHAPE", 2)
    # Two records, or one, decide what is taken for the same in all: often wrongly.
    monkeypatch.setattr(columnar, "NARROWING_SAMPLES", 2)
    monkeypatch.setattr(shapes, "_LEAST_SAMPLES", 1)


def one_by_one(values: list[bytes | None], dimensions: tuple[str, ...]) -> Any:
    least, columnar.MIN_OF_A_SHAPE = columnar.MIN_OF_A_SHAPE, 1 << 40
    try:
        return decode_batch(values, [-1] * len(values), NOW, LIMITS, dimensions)[:2]
    finally:
        columnar.MIN_OF_A_SHAPE = least


@settings(deadline=None, max_examples=400)
@given(batches(), st.sampled_from([(), ("tenant",), ("tenant", "region"), ("region", "tenant", "workload")]))
@example([event(), event(e2e_seconds=0.1), event(event_id="b")], ())
@example([event(event_id="€" * 256), event(event_id="🜂" * 256), event()], ())
@example([event(tenant="a", region=region) for region in ("b", "c", "|", "b", "€" * 256)], ("tenant", "region"))
def test_same_as_one_by_one(values: list[bytes | None], dimensions: tuple[str, ...]) -> None:
    together, refused, _ = decode_batch(values, [-1] * len(values), NOW, LIMITS, dimensions)
    apart, expected = one_by_one(values, dimensions)
    assert refused == expected
    assert comparable(together) == comparable(apart)


@settings(deadline=None, max_examples=200)
@given(batches(), st.sampled_from([b"\0", b"\x80k", b'{"', b" "]), st.sampled_from([0, 7, 3_000]))
@example([event(), event(e2e_seconds=0.1), event(event_id="b"), b"", event(event_id="\u20ac")], b"\x80", 3_000)
def test_values_that_lie_in_a_buffer_are_read_as_others(
    values: list[bytes | None], between: bytes, behind: int
) -> None:
    texts = [value or b"" for value in values]
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths + len(between))
    sliced = SlicedValues(b"".join(between + text for text in texts) + bytes(behind), ends - lengths, ends)
    together, refused, _ = decode_batch(sliced, [-1] * len(values), NOW, LIMITS, ("tenant",))
    apart, expected = one_by_one(texts, ("tenant",))  # type: ignore[arg-type]
    assert refused == expected
    assert comparable(together) == comparable(apart)


SECONDS = st.floats(0, 86_400, allow_nan=False) | st.decimals(0, 86_400, places=6).map(float)
TIMES = st.floats(1e9, 2e9) | st.decimals(10**9, 2 * 10**9, places=7).map(float)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(SECONDS, TIMES), min_size=4))
def test_numbers_are_rounded_as_the_decoder_rounds(numbers: list[tuple[float, float]]) -> None:
    values = [event(e2e_seconds=seconds, completed_at=at) for seconds, at in numbers]
    lengths = np.array([len(value) for value in values])
    buffer = Buffer(values, lengths)
    shape = learn(values[0])
    assert shape is not None
    found = read(buffer, np.arange(len(values)), shape, {"e2e_seconds", "completed_at"})
    assert [numbers[row][0] for row in found.rows] == found.numbers["e2e_seconds"].tolist()
    assert [numbers[row][1] for row in found.rows] == found.numbers["completed_at"].tolist()


@pytest.mark.parametrize("name", ["ttft_seconds", "cached_input_tokens", "http_status", "completed_at", "unknown"])
@pytest.mark.parametrize(
    "text",
    [
        "0",
        "00",
        "01",
        "00.5",
        "0.",
        ".5",
        "1.",
        "-0",
        "-1",
        "1e3",
        "1.5.2",
        "86400.001",
        "10000000",
        "10000001",
        "",
        "7 ",
    ],
)
def test_numbers_on_the_edge(name: str, text: str) -> None:
    usual = [event(event_id=f"{i}", **{name: 1}) for i in range(3)]
    odd = event(**{name: 1}).replace(b'"%s": 1' % name.encode(), b'"%s": %s' % (name.encode(), text.encode()))
    values: list[bytes | None] = [*usual, odd]
    together, refused, _ = decode_batch(values, [-1] * 4, NOW, LIMITS)
    apart, expected = one_by_one(values, ())
    assert refused == expected
    assert comparable(together) == comparable(apart)


def test_usual_records_are_read_together() -> None:
    values = [event(event_id=f"id-{i}", e2e_seconds=i / 8, pool=f"pool-{i % 3}") for i in range(40)]
    lengths = np.array([len(value) for value in values])
    buffer = Buffer(values, lengths)
    shape = learn(values[0])
    assert shape is not None
    assert len(read(buffer, np.arange(40), shape, set()).rows) == 40
    columns, refused, _ = decode_batch(values, [-1] * 40, NOW, LIMITS)
    assert not refused
    assert sorted(key.pool for key in columns.keys) == ["pool-0", "pool-1", "pool-2"]


def test_what_agrees_in_all_samples_becomes_part_of_the_shape() -> None:
    values = [event(event_id=f"id-{i}", region="eu", http_status=200, tenant=f"t{i}") for i in range(8)]
    shape = learn(values[0])
    assert shape is not None
    narrowed = narrow(shape, values, {"event_id", "model"})
    assert narrowed is not None
    names = [name for name, _ in narrowed.scalars]
    assert "region" not in names
    assert "http_status" not in names
    assert [narrowed.lengths[names.index(name)] for name in ("event_id", "model", "tenant")] == [4, 1, 2]
    odd = [
        event(event_id="id-9", region="us", http_status=200, tenant="t9"),
        event(event_id="id-10", region="eu", http_status=200, tenant="t9"),
        event(event_id='i""9', region="eu", http_status=200, tenant="t9").replace(b"\\", b""),
        event(event_id="id-9", region="eu", http_status=200, tenant="t9"),
    ]
    lengths = np.array([len(value) for value in odd])
    assert read(Buffer(odd, lengths), np.arange(4), narrowed, {"event_id"}).rows.tolist() == [3]


def test_what_differs_from_the_samples_is_read_by_the_shape_itself() -> None:
    values = [event(event_id=f"id-{i:03}", finish_reason="length" if i % 10 == 7 else "stop") for i in range(400)]
    together, refused, _ = decode_batch(values, [-1] * 400, NOW, LIMITS)
    apart, _ = one_by_one(list(values), ())
    assert not refused
    assert comparable(together) == comparable(apart)


def test_several_shapes_and_records_of_none_stay_in_order() -> None:
    values = [event(event_id=f"{i}", **({"ttft_seconds": 0.5} if i % 2 else {})) for i in range(40)]
    values[7], values[8] = b"{", event(event_id="é")
    columns, refused, _ = decode_batch(values, [-1] * 40, NOW, LIMITS)
    assert columns.index.tolist() == [i for i in range(40) if i != 7]
    assert [rejection.position for rejection in refused] == [7]
    assert np.isnan(columns.ttft[0])
    assert columns.ttft[1] == 0.5


@pytest.mark.parametrize("value", [b'{"a":1,"a":2}', b"{}", b'{"completed_at":"2026-01-01T00:00:00Z"}'])
def test_what_has_no_shape(value: bytes) -> None:
    assert learn(value) is None


@pytest.mark.parametrize(
    "length", [240, 256, 1_756, 1_771, 1_772, 1_773, 1_776, 1_778, 1_780, 1_782, 1_784, 1_786, 1_836]
)
@pytest.mark.parametrize("last", [b"1", b"{", b"x" * 300])
def test_long_names_of_members_before_a_text_at_the_end_of_a_batch(length: int, last: bytes) -> None:
    long = "k" * length
    values: list[bytes | None] = [
        b'{"%s":null,' % long.encode() + event(event_id=f"e{i}")[1:].replace(b": ", b":") for i in range(3)
    ]
    values.append(last)
    together, refused, _ = decode_batch(values, [-1] * 4, NOW, LIMITS)
    apart, expected = one_by_one(values, ())
    assert refused == expected
    assert comparable(together) == comparable(apart)


@pytest.mark.parametrize(
    "filling",
    [
        b"[" + b"1," * 30_000 + b"1]",
        b"[" + b"[]," * 20_000 + b"[]]",
        b"[" + b'"",' * 20_000 + b'""]',
        b'"%s"' % (b"a" * 1_000_000),
        b"[" + b" " * 60_000 + b"]",
    ],
    ids=["numbers", "lists", "texts", "long", "spaces"],
)
def test_a_huge_record_has_no_shape(filling: bytes) -> None:
    value = event()[:-1] + b',"x":' + filling + b"}"
    assert decode_batch([value], [-1], NOW, LIMITS)[1] == []
    assert learn(value) is None


def test_learning_looks_at_a_bounded_part_of_a_record() -> None:
    looked: list[int] = []

    class Tokens(list[bytes]):
        def __getitem__(self, at: Any) -> Any:
            found = super().__getitem__(at)
            looked.append(len(found))
            return found

    assert shapes._is_key(Tokens([b'"a"', b" ", b":", *[b"1"] * 1_000]), 0)
    assert max(looked) <= 2
