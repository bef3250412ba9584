"""A conformance check for codecs of one's own, like ``check_expert`` for experts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.codecs.base import Codec, Decoded, RawRecord
from pipeline.events.convert import convert
from pipeline.events.request_event import RequestEvent

__all__ = ["check_codec"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FIELDS = {field.name for field in msgspec.structs.fields(RequestEvent)} | {"model_hint"}

#: What nobody meant to send; a codec refuses or ignores it, and never fails on it.
JUNK: tuple[bytes, ...] = (
    b"{",
    b"{}",
    b"[]",
    b"null",
    b'"text"',
    b"[[[[]]]]",
    b"\xff\xfe\x00",
    b"\x0a\x7b\x01",
    b'{"a":' + b"[" * 5_000,
    b'{"a":' + b'{"a":' * 200 + b"1" + b"}" * 201,
    b'{"event_id":null,"model":{},"usage":[],"status":[1]}',
    b'{"a":1e999,"b":' + b"9" * 400 + b"}",
)


def check_codec(codec: Codec, samples: Sequence[bytes], private: Iterable[str] = ()) -> None:
    """Check that a codec keeps the contract of ``pipeline.events.codecs.base``.

    Args:
        codec: the codec.
        samples: records of its format that hold at least one request each.
        private: texts of the samples (prompts, names) that must not be in any event.

    Raises:
        AssertionError: it names what does not hold.
    """
    assert isinstance(codec, Codec), "name, title, recognises and decode are needed"
    assert _NAME.fullmatch(codec.name), f"name {codec.name!r}: lower case letters, digits and _ only"
    assert codec.title, "title is empty"
    for sample in samples:
        assert codec.recognises(RawRecord(sample)), f"{codec.name} does not recognise {sample[:80]!r}"
        decoded = codec.decode(RawRecord(sample))
        assert decoded.events, f"no events in {sample[:80]!r}"
        assert list(codec.decode(RawRecord(sample)).events) == list(decoded.events), "two readings differ"
        _check_events(codec, decoded, tuple(private))
    for junk in (*JUNK, *(sample[: len(sample) // 2] for sample in samples)):
        _check_junk(codec, junk)


def _check_events(codec: Codec, decoded: Decoded, private: tuple[str, ...]) -> None:
    for fields in decoded.events:
        unknown = set(fields) - _FIELDS
        assert not unknown, f"{codec.name} gives {sorted(unknown)}, which are no event fields"
        event, _ = convert(fields)
        written = msgspec.json.encode(event).decode()
        for text in private:
            assert text not in written, f"{codec.name} lets private text into an event"


def _check_junk(codec: Codec, junk: bytes) -> None:
    try:
        record = RawRecord(junk)
        codec.recognises(record)
        codec.decode(record)
    except EventRejected as error:
        if not error.detail:
            raise AssertionError(f"{codec.name} refuses {junk[:40]!r} without saying why") from error
    except Exception as error:
        raise AssertionError(f"{codec.name} fails on {junk[:40]!r}: {error!r}") from error
