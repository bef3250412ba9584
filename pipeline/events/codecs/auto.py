"""Recognises the format of each record and reads it with that format's codec.

Recognition goes by names that only one format has, never by trying: a record that two formats could claim, or none, is
refused, and the refusal names what it looks like and what to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from pipeline.errors import ConfigError, EventRejected
from pipeline.events.codecs.base import Codec, Decoded, RawRecord
from pipeline.events.codecs.registry import AUTO, BUILT_IN, GROUP, codec_named
from pipeline.events.request_event import RejectReason

__all__ = ["AutoCodec", "described"]


#: These are told by their first bytes; they are asked first, and nothing else is parsed to ask the others.
_CERTAIN = ("otlp_json", "otlp_proto")


class AutoCodec:
    """Every codec at once; ``Decoded.codec`` tells which one read a record."""

    name = AUTO
    title = "any format that is recognised"

    @cached_property
    def codecs(self) -> tuple[Codec, ...]:
        """The codecs that are asked, in order, without those that cannot be loaded: a library of theirs is missing."""
        found = []
        for name in (*BUILT_IN, *sorted(point.name for point in entry_points(group=GROUP))):
            try:
                found.append(codec_named(name))
            except (ConfigError, ImportError):
                continue
        return tuple(found)

    def choose(self, record: RawRecord) -> Codec | None:
        """Return the codec of a record's format; None: no format is recognised, or several."""
        found = []
        for codec in self.codecs:
            if codec.recognises(record):
                if codec.name in _CERTAIN:
                    return codec
                found.append(codec)
        return found[0] if len(found) == 1 else None

    def recognises(self, record: RawRecord) -> bool:
        """Whether exactly one codec recognises the record."""
        return self.choose(record) is not None

    def decode(self, record: RawRecord) -> Decoded:
        """Return what the codec of the record's format makes of it.

        Raises:
            EventRejected: no format is recognised, or the record is broken.
        """
        codec = self.choose(record)
        if codec is None:
            record.json()  # what is not even JSON is refused as that
            raise EventRejected(RejectReason.UNKNOWN_FORMAT, f"no format is recognised{_keys(record)}")
        return codec.decode(record)._replace(codec=codec.name)


_ANY = AutoCodec()


def described(error: EventRejected, record: RawRecord, codec: str = "native") -> EventRejected:
    """Return the error with what the record looks like added, where it is not of the format of the reading codec."""
    if error.reason == RejectReason.EMPTY or _MARK in error.detail:
        return error
    hint = _hint(record, codec)
    return EventRejected(error.reason, f"{error.detail[:200]}{_MARK}{hint}") if hint else error


_MARK = "; looks like "


def _hint(record: RawRecord, reading: str) -> str:
    value = record.value.lstrip()
    if value[:7] in (b"# HELP ", b"# TYPE "):
        return "a Prometheus exposition, not events"
    try:
        parsed = record.json()
    except EventRejected:
        return "several JSON documents in one record; send one per record" if _several(value) else ""
    if isinstance(parsed, str):
        return "JSON encoded twice" if parsed.lstrip()[:1] == "{" else ""
    hint = _unsupported(parsed) if isinstance(parsed, dict) else ""
    if hint:
        return hint
    codec = _ANY.choose(record)
    if codec is not None:
        return "" if reading in (codec.name, AUTO) else f"{codec.title} (codec = {codec.name!r})"
    return f"a list of {len(parsed)}; send one event per record" if isinstance(parsed, list) else ""


def _several(value: bytes) -> bool:
    """Whether the value is lines of JSON objects."""
    lines = value.splitlines()
    return len(lines) > 1 and all(line.strip()[:1] == b"{" for line in lines[:4] if line.strip())


def _unsupported(fields: Mapping[str, Any]) -> str:
    """Formats that hold no request events, or hold them where no codec looks."""
    for name in ("log", "message", "msg", "MESSAGE"):
        text = fields.get(name)
        if isinstance(text, str) and text.lstrip()[:1] == "{":
            return f"an event that is text inside `{name}` (a log collector wrapped it); parse `{name}` as JSON first"
    if isinstance(fields.get("payload"), dict) and isinstance(fields.get("schema"), dict):
        return "a Kafka Connect envelope; send its `payload` (value.converter.schemas.enable = false)"
    if "resourceMetrics" in fields or "resourceLogs" in fields:
        return "OTLP metrics or logs; only traces hold requests"
    if str(fields.get("object", "")).endswith(".chunk"):
        return "one chunk of a streamed OpenAI answer; the request as a whole is needed"
    return ""


def _keys(record: RawRecord) -> str:
    """The first names in a record, for a message: names are no private text, values may be."""
    fields = record.json()
    if not isinstance(fields, dict):
        return ""
    names = [str(name)[:32] for name in list(fields)[:6]]
    return f" (fields: {', '.join(name if name.isprintable() else '?' for name in names)})"
