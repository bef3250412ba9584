"""OTLP protobuf that no library writes: read together it comes out as one by one, and each record has one outcome.

Batches are made of a seed, byte by byte: lengths that lie, numbers written too long, fields and attributes twice, in
any order, unknown and of other types, groups, damaged bytes.
"""

from __future__ import annotations

import random
import struct
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.codecs.records import as_collector_writes
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.codecs import otlp_batch
from pipeline.events.codecs.otlp_names import ATTRIBUTES
from pipeline.events.codecs.registry import codec_for
from pipeline.events.validation import EventLimits
from tests.property.test_otlp_together import both_ways
from tests.protobuf_bytes import any_value, attribute, field, groups, varint
from tests.unit.events.codecs.test_golden import GOLDEN, NOW
from tests.unit.events.codecs.test_otlp import SPANS, as_protobuf

USUAL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 3,
}
UNREAD = ("gen_ai.prompt", "http.url", "gen_ai.usage.input_token", "gen_ai.usage.input_tokens2", "é", "")
TEXTS = ("", "m", "chat", "é", "x" * 120, "y" * 125, "y" * 126, "y" * 127, "y" * 128, "z" * 300, "\0", "429", "abort")
WHOLE = (0, 1, 127, 128, 16_383, 16_384, 10_000_000, 10_000_001, 2**28 - 1, 2**28, 2**40, -1, 2**63 - 1, 429)
DECIMAL = (0.0, -0.0, 1.5, 7.0, 86_400.0, 86_400.1, float("nan"), float("inf"), -1.0, 5e-324)
BYTES = (0x00, 0x0A, 0x12, 0x7F, 0x80, 0x81, 0xFF)
ODDS = (0.0, 0.01, 0.03, 0.1, 0.3)


class Maker(NamedTuple):
    """Makes spans; ``odd`` is how likely it is that something is not as it always is."""

    draw: random.Random
    odd: float

    def oddly(self, share: float = 1.0) -> bool:
        return self.draw.random() < self.odd * share

    def value(self, like: Any = None) -> Any:
        texts = [self.draw.choice(TEXTS) for _ in range(self.draw.randrange(3))]
        of_kind: dict[type, Any] = {
            str: self.draw.choice(TEXTS),
            bool: self.draw.random() < 0.5,
            int: self.draw.choice(WHOLE) if self.draw.random() < 0.2 else self.draw.randrange(40_000),
            float: self.draw.choice(DECIMAL) if self.draw.random() < 0.2 else self.draw.random() * 3,
            list: texts,
        }
        return of_kind[self.draw.choice([str, bool, int, float, list]) if like is None else type(like)]

    def unknown(self) -> bytes:
        number = self.draw.choice([3, 10, 16, 20, 99, 1_000, 536_870_911])
        return self.draw.choice(
            [
                varint(number << 3) + varint(self.draw.choice(WHOLE)),
                varint(number << 3 | 1) + bytes(8),
                field(number, b"xyz"),
                varint(number << 3 | 5) + bytes(4),
                varint(number << 3 | 6),
                groups(self.draw.choice([1, 2, 30, 96, 97, 98, 99, 100]), number),
            ]
        )

    def wrapped(self, number: int, content: bytes, share: float = 0.1) -> bytes:
        """A field whose length may be wrong, or written too long."""
        if not self.oddly(share):
            return field(number, content)
        if self.draw.random() < 0.5:
            return field(number, content, longer=self.draw.choice([1, 2, 3, 4, 8]))
        lengths = [
            len(content) + 1,
            max(0, len(content) - 1),
            len(content) + 128,
            2**28,
            2**32 + len(content),
            2**63,
            -1,
        ]
        return field(number, content, length=self.draw.choice(lengths))

    def odd_value(self) -> bytes:
        one, other = any_value(self.value()), any_value(self.value())
        return self.draw.choice(
            [
                *(one, one + other, one + self.unknown(), self.unknown() + one, one[:-1], b"", b"\x0a\x03a\xffb"),
                *(field(6, b""), field(7, b"\xff"), b"\x10\x02", b"\x18" + varint(self.draw.choice(WHOLE), longer=5)),
                bytes((0x0A, self.draw.choice((0, 5, 126, 128)))) + b"abc",
            ]
        )

    def attribute(self, name: str, value: bytes, *, value_first: bool) -> bytes:
        found = attribute(name, value, value_first=value_first)
        if not self.oddly():
            return found
        key = field(1, name.encode())
        text = b"t" * self.draw.choice([124, 125, 126, 127])  # of which the length of the whole has no room in a byte
        short = bytes((0x12, len(text) + 2, 0x0A, len(text))) + text
        return self.draw.choice(
            [
                *(found + self.unknown(), self.unknown() + found, key + self.unknown() + field(2, value)),
                *(found + key, found + field(1, b"gen_ai.request.model"), found + field(2, self.odd_value())),
                *(key, field(2, value), short + key if value_first else key + short, attribute(name + "x", value)),
                attribute(name, value, value_first=not value_first),
            ]
        )


class Kind(NamedTuple):
    """What the spans of one instrumentation have in common."""

    attributes: dict[str, Any]
    value_first: bool
    others: list[bytes]
    name: str
    order: int

    @classmethod
    def drawn(cls, make: Maker) -> Kind:
        draw = make.draw
        names = [*(USUAL if draw.random() < 0.75 else {}), *draw.sample(sorted(ATTRIBUTES), draw.choice([0, 1, 3, 6]))]
        names += draw.sample(UNREAD, draw.choice([0, 1, 2]))
        draw.shuffle(names)
        attributes = {name: USUAL.get(name, make.value(like=_usual_kind(name))) for name in names}
        kinds = [
            b"",
            b"\x30\x02",
            b"\x30\x03",
            field(3, b"a=\xff"),
            field(4, b"12345678"),
            b"\x50\x01",
            field(13, b"l"),
        ]
        kinds += [b"\x85\x01abcd", field(15, field(2, b"429") + b"\x18\x02"), field(15, b"\x18\x01")]
        name = draw.choice(["chat", "llm_request", "", "é", "n" * 127, "n" * 128])
        return cls(attributes, draw.random() < 0.5, draw.sample(kinds, 3), name, draw.randrange(9))


def _usual_kind(name: str) -> Any:
    if any(word in name for word in ("tokens", "token_count", "status_code", "count", "request.n")):
        return 1
    if any(word in name for word in ("latency", "time_to", "msTo")):
        return 0.5
    return True if "stream" in name else ["stop"] if "reasons" in name else "text"


def span(make: Maker, kind: Kind) -> bytes:
    draw = make.draw
    start = int((NOW - 60) * 1e9) + draw.randrange(10**9)
    end = start + 6_400_000_000
    if make.oddly():
        start = draw.choice([0, 1, 2**63, 2**64 - 1, start - 10**16, start + 10**13])
    if make.oddly():
        end = draw.choice([0, 2**63, 2**64 - 1, 1, int((NOW - 60) * 1e9)])
    trace, own = draw.randbytes(16), draw.randbytes(8)
    if make.oddly():
        trace = draw.choice([b"", b"x" * 8, b"y" * 15, b"z" * 17, bytes(16), b"A" * 16])
    if make.oddly():
        own = draw.choice([b"", b"x" * 7, b"A" * 8, b"z" * 9])
    name = draw.choice([b"llm_request", b"c\xffh", b"x" * 130]) if make.oddly() else kind.name.encode()
    parts = [make.wrapped(1, trace), make.wrapped(2, own), make.wrapped(5, name), *kind.others]
    parts += [b"\x39" + struct.pack("<Q", start), b"\x41" + struct.pack("<Q", end)]
    for one, usual in kind.attributes.items():
        own_value = isinstance(usual, int | float) and not isinstance(usual, bool)
        told = any_value(make.value(like=usual) if own_value else usual)
        if make.oddly(0.5):
            told = make.odd_value()
        parts.append(make.wrapped(9, make.attribute(one, told, value_first=kind.value_first)))
    if make.oddly(0.3):
        first = b"\x09" + struct.pack("<Q", start % 2**60 + 10**9)
        parts.append(field(11, first + field(2, draw.choice([b"gen_ai.first_token", b"\xff"]))))
    if make.oddly(0.3):
        parts.append(make.unknown())
    if make.oddly(0.3):
        parts.append(draw.choice(parts))
    if make.oddly(0.3):
        parts.pop(draw.randrange(len(parts)))
    if make.oddly(0.3):
        draw.shuffle(parts)
    elif kind.order:
        random.Random(kind.order).shuffle(parts)
    return damaged(make, b"".join(parts), 0.3)


def damaged(make: Maker, whole: bytes, share: float) -> bytes:
    if not whole or not make.oddly(share):
        return whole
    at = make.draw.randrange(len(whole))
    if make.draw.random() < 0.3:
        return whole[:at]
    return whole[:at] + bytes((make.draw.choice((*BYTES, make.draw.randrange(256))),)) + whole[at + 1 :]


def record(make: Maker, kinds: list[Kind]) -> bytes | None:
    draw = make.draw
    batches = []
    for _ in range(draw.choice([1, 1, 2])):
        parts = []
        for _ in range(draw.choice([1, 1, 2])):
            inside = [field(1, field(1, b"scope"))]
            spans = [span(make, draw.choice(kinds)) for _ in range(draw.choice([0, 1, 2, 6]))]
            inside += [make.wrapped(2, one, 0.05) for one in spans]
            inside += [field(3, b"url")] * draw.randrange(2)
            parts.append(make.wrapped(2, b"".join(inside), 0.05))
        for _ in range(1 + make.oddly()):
            told = [make.odd_value() if make.oddly() else any_value(draw.choice("ab"))]
            said = b"".join(field(1, make.attribute("service.instance.id", one, value_first=False)) for one in told)
            parts.append(field(1, said + (make.unknown() if make.oddly() else b"")))
        parts += [make.unknown()] * make.oddly()
        draw.shuffle(parts)
        batches.append(make.wrapped(1, b"".join(parts), 0.05))
    batches += [draw.choice([make.unknown(), b"\x0a\x00", b"\x0a\x02\x0a\x00"])] * make.oddly()
    whole = damaged(make, b"".join(batches), 0.2)
    return draw.choice([None, b"", b"\0", b"\0\0\0\0\1" + whole, b"\xef\xbb\xbf" + whole]) if make.oddly(0.1) else whole


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_batch, "MIN_SPANS", 1)
    monkeypatch.setattr(otlp_batch, "MIN_READ", 0.0)


def check(values: list[bytes | None], codec: str = "otlp_proto", dimensions: tuple[str, ...] = ("tenant",)) -> None:
    reader: Any = codec_for(codec, None, {})
    reader.decode_together([value or b"" for value in values], dimensions)  # raises nothing
    together, apart = both_ways(values, codec, {}, dimensions)
    assert together == apart
    columns, refused, notes = decode_batch(
        values, [-1] * len(values), NOW, EventLimits(), dimensions, codec=codec_for(codec, None, {})
    )
    outcomes = [set(columns.index.tolist()), {one.position for one in refused}, set(notes.ignored)]
    assert sum(map(len, outcomes)) == len(values) == len(set.union(*outcomes))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from(ODDS), st.sampled_from(["otlp_proto", "auto"]))
def test_hostile_spans_come_out_as_one_by_one(seed: int, odd: float, codec: str) -> None:
    make = Maker(random.Random(seed), odd)
    kinds = [Kind.drawn(make) for _ in range(make.draw.choice([1, 1, 2, 4]))]
    check([record(make, kinds) for _ in range(make.draw.choice([3, 10, 30]))], codec)


@pytest.mark.parametrize("collected", [False, True], ids=["sdk", "collector"])
@pytest.mark.parametrize("name", [next(iter(SPANS)), list(SPANS)[-1]])
def test_a_record_with_any_one_byte_changed_comes_out_as_alone(name: str, collected: bool) -> None:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    whole: bytes = as_protobuf(GOLDEN[name]["record"])  # type: ignore[no-untyped-call]
    if collected:
        whole = as_collector_writes(TracesData.FromString(whole))
    changed: list[bytes | None] = [whole] * 20
    for at, byte in enumerate(whole):
        changed += [whole[:at] + bytes((other,)) + whole[at + 1 :] for other in (byte ^ 1, BYTES[at % len(BYTES)])]
        changed += [whole[:at] + whole[at + 1 :], whole[: at + 1] + whole[at:], whole[:at]][at % 3 : at % 3 + 1]
    check(changed)
