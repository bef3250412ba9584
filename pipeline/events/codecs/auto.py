"""Recognises the format of each record and reads it with that format's codec.

Recognition goes by names that only one format has, never by trying: a record that two formats could claim, or none, is
refused, and the refusal names what it looks like and what to set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import entry_points

from pipeline.errors import ConfigError, EventRejected
from pipeline.events.codecs.base import Codec, Completed, Decoded, DecodedTogether, DecodesTogether, RawRecord
from pipeline.events.codecs.otlp_json import begins_as_otlp_json
from pipeline.events.codecs.registry import AUTO, BUILT_IN, GROUP, codec_named
from pipeline.events.request_event import RejectReason

__all__ = ["AutoCodec"]


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
            if _recognises(codec, record):
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

    def decode_together(
        self, values: Sequence[bytes], dimensions: Sequence[str], completed: Completed | None = None
    ) -> DecodedTogether | None:
        """Return what the codec of the first record reads of all at once; see ``base.DecodesTogether``."""
        first = next((value for value in values if value), None)
        try:
            chosen = self.choose(RawRecord(first))
        except EventRejected:
            return None
        # Only OTLP protobuf is read so, and takes no record that it does not recognise; OTLP JSON is asked before it.
        if not isinstance(chosen, DecodesTogether) or any(map(begins_as_otlp_json, values)):
            return None
        return chosen.decode_together(values, dimensions, completed)


def _recognises(codec: Codec, record: RawRecord) -> bool:
    """Whether a codec recognises a record; one that fails at it does not: input must not stop the pipeline."""
    try:
        return codec.recognises(record)
    except Exception:
        return False


def _keys(record: RawRecord) -> str:
    """The first names in a record, for a message: names are no private text, values may be."""
    fields = record.json()
    if not isinstance(fields, dict):
        return ""
    names = [str(name)[:32] for name in list(fields)[:6]]
    return f" (fields: {', '.join(name if name.isprintable() else '?' for name in names)})"
