"""Reads records one by one with a codec and collects events, refusals and what else there is to count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import EventRejected
from pipeline.events.codecs import native
from pipeline.events.codecs.auto import AutoCodec
from pipeline.events.codecs.base import Codec, Decoded, DecodedTogether, DecodesTogether, Headers, RawRecord
from pipeline.events.codecs.hints import described
from pipeline.events.convert import convert
from pipeline.events.request_event import RejectReason

__all__ = ["Reader", "decode_one"]


class Reader:
    """The records of a batch that are not read in columns.

    ``events`` are within the bounds of their type, unchecked, in record order, at ``positions`` in the batch; of native
    records they may have the counted fields only. ``refused`` has (position, why), more than once for a record of which
    several parts were refused.
    """

    def __init__(self, values: Sequence[bytes | None], codec: Codec | None, headers: Mapping[int, Headers]) -> None:
        self._values = values
        self._auto = codec if isinstance(codec, AutoCodec) else None
        self._codec = None if codec is None or isinstance(codec, native.NativeCodec) else codec
        self.headers = headers
        self.events: list[Any] = []
        self.positions: list[int] = []
        self.refused: list[tuple[int, EventRejected]] = []
        self.ignored: list[int] = []
        self.ignored_parts: list[tuple[int, int]] = []
        self.unknown: list[tuple[int, str]] = []
        self.codecs: list[tuple[int, str]] = []
        self.native_first = self._codec is None or (self._auto is not None and not self._begins_foreign())

    def _begins_foreign(self) -> bool:
        """Whether the first record is of another format than the native one; the others probably are as well."""
        assert self._auto is not None
        for i, value in enumerate(self._values):
            if value:
                if native.strict(value) is not None:
                    return False
                try:
                    chosen = self._auto.choose(RawRecord(value, self.headers.get(i, ())))
                except EventRejected:
                    return False
                return chosen is not None and chosen.name != native.NativeCodec.name
        return False

    def refuse(self, position: int, error: EventRejected) -> None:
        """Note that a record, or a part of it, is refused."""
        self.refused.append((position, error))

    def read_together(self, positions: Sequence[int], dimensions: Sequence[str]) -> DecodedTogether | None:
        """Read what the codec reads of many records at once; None: nothing.

        Places in the answer are those in the batch, but for ``taken``, which has one for each of ``positions``.
        """
        if self.native_first or not isinstance(self._codec, DecodesTogether):
            return None
        try:
            found = self._codec.decode_together([self._values[i] or b"" for i in positions], dimensions)
        except Exception:  # as in ``decode_one``: input must not stop the pipeline, and one by one it is judged
            return None
        if found is None:
            return None
        where = np.asarray(positions, np.int64)
        self.codecs += [(i, found.codec) for i in where[found.taken].tolist()]
        found.columns.index = where[found.columns.index]
        self.ignored += [positions[i] for i in found.ignored]
        self.ignored_parts += [(positions[i], parts) for i, parts in found.ignored_parts]
        self.refused += [(positions[i], error) for i, error in found.refused]
        self.unknown += [(positions[i], name) for i, name in found.unknown]
        return found

    def read(self, positions: Sequence[int], *, all_fields: bool) -> None:
        """Read the records at ``positions`` (ascending); without ``all_fields`` events may have fewer fields."""
        if not self.native_first:
            for i in positions:
                self._decode(i)
            return
        values = self._values if len(positions) == len(self._values) else [self._values[i] for i in positions]
        headers = self.headers
        if headers and values is not self._values:
            headers = {at: headers[i] for at, i in enumerate(positions) if i in headers}
        found = native.decode_many(values, all_fields=all_fields, headers=headers)
        self.events = found.events
        self.unknown += [(positions[at], name) for at, name in found.unknown]
        if not found.refused:
            self.positions = list(positions)
            return
        missing = {at for at, _ in found.refused}
        self.positions = [i for at, i in enumerate(positions) if at not in missing]
        native_events = len(self.events)
        for at, error in found.refused:
            self._decode_refused(positions[at], error)
        if len(self.events) > native_events:
            order = sorted(range(len(self.events)), key=self.positions.__getitem__)
            self.events = [self.events[i] for i in order]
            self.positions = [self.positions[i] for i in order]

    def _decode_refused(self, position: int, error: EventRejected) -> None:
        """A record that the native codec refuses: of another format where that is looked for, or refused for good."""
        try:
            record = RawRecord(self._values[position], self.headers.get(position, ()))
        except EventRejected:
            self.refuse(position, error)
            return
        if self._auto is None:
            self.refuse(position, described(error, record))
            return
        chosen = self._auto.choose(record)
        if chosen is not None and chosen.name == native.NativeCodec.name:
            self.refuse(position, error)
        else:
            self._add(position, record, chosen or self._auto)

    def _decode(self, position: int) -> None:
        assert self._codec is not None
        try:
            record = RawRecord(self._values[position], self.headers.get(position, ()))
        except EventRejected as error:
            self.refuse(position, error)
            return
        self._add(position, record, self._codec)

    def _add(self, position: int, record: RawRecord, codec: Codec) -> None:
        try:
            decoded = decode_one(codec, record)
        except EventRejected as error:
            self.refuse(position, error)
            return
        read_by = decoded.codec or codec.name
        if read_by != native.NativeCodec.name:
            self.codecs.append((position, read_by))
        if decoded.ignored_parts:
            self.ignored_parts.append((position, decoded.ignored_parts))
        if not decoded.events:
            self.ignored.append(position)
        for fields in decoded.events:
            try:
                event, unknown = convert(fields)
            except EventRejected as error:
                self.refuse(position, error)
                continue
            self.events.append(event)
            self.positions.append(position)
            if unknown:
                self.unknown += [(position, name) for name in unknown]


def decode_one(codec: Codec, record: RawRecord) -> Decoded:
    """Return what a codec makes of a record; whatever it raises is a refusal, since input must not stop the pipeline.

    Raises:
        EventRejected: it refuses the record, or fails on it.
    """
    try:
        return codec.decode(record)
    except EventRejected as error:
        raise described(error, record, codec.name) from error
    except Exception as error:
        detail = f"the codec {codec.name} failed: {type(error).__name__}: {str(error)[:120]}"
        raise EventRejected(RejectReason.MALFORMED, detail) from error
