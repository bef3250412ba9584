"""What a codec is: one format's record in, the plain fields of zero or more request events out.

A codec does no I/O, keeps no state and asks no clock: the same record always gives the same events. It names things
(``Fields`` has the names and units of ``RequestEvent``) and leaves out what the format does not know; bounds,
conversion and the rules across fields are the same for every format (``pipeline.events.convert``,
``pipeline.events.validation``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EventRejected
from pipeline.events.columns import EventColumns
from pipeline.events.request_event import RejectReason, RequestEvent

__all__ = [
    "Codec",
    "Completed",
    "Decoded",
    "DecodedTogether",
    "DecodesTogether",
    "Fields",
    "Headers",
    "RawRecord",
    "epoch_nanoseconds",
    "parsed_json",
]

#: Names of ``RequestEvent`` to plain values, in its units. None and absent mean the same: unknown. ``model_hint`` is a
#: name for the model where neither the record nor the settings has one.
Fields = Mapping[str, Any]
#: Record headers: (name, value) in the order of the record.
Headers = Sequence[tuple[str, bytes | None]]

_JSON = msgspec.json.Decoder()
#: The five bytes that a schema registry's serialiser puts before the payload: a zero byte and a 4-byte schema id.
_REGISTRY_HEADER_BYTES = 5
_NOT_PARSED: Any = object()


class RawRecord:
    """One record as fetched: ``value`` (not empty, without a schema registry's header or a byte order mark) and
    ``headers``; ``registered``: there was such a header."""

    __slots__ = ("_json", "headers", "registered", "value")

    def __init__(self, value: bytes | None, headers: Headers = ()) -> None:
        """Take a record's value and headers.

        Raises:
            EventRejected: there is no value.
        """
        if not value:
            raise EventRejected(RejectReason.EMPTY, "the record has no value")
        self.registered = value[0] == 0
        if self.registered:
            value = value[_REGISTRY_HEADER_BYTES:]
            if not value:
                raise EventRejected(RejectReason.MALFORMED, "a schema registry's header and nothing behind it")
        self.value: bytes = value.removeprefix(b"\xef\xbb\xbf")
        self.headers = headers
        self._json: Any = _NOT_PARSED

    def json(self) -> Any:
        """Return the value parsed as JSON; parsed once.

        Raises:
            EventRejected: it is not JSON.
        """
        if self._json is _NOT_PARSED:
            try:
                self._json = parsed_json(self.value)
            except EventRejected as error:
                self._json = error
        if isinstance(self._json, EventRejected):
            raise self._json
        return self._json

    def object(self) -> dict[str, Any]:
        """Return the value parsed as a JSON object.

        Raises:
            EventRejected: it is not a JSON object.
        """
        found = self.json()
        if not isinstance(found, dict):
            raise EventRejected(RejectReason.WRONG_TYPE, f"expected a JSON object, not {type(found).__name__}")
        return found

    def is_object(self) -> bool:
        """Whether the value is a JSON object: never raises."""
        try:
            return isinstance(self.json(), dict)
        except EventRejected:
            return False

    def digest(self) -> str:
        """Return an id of the record's bytes, for formats that have none: identical records have the same one."""
        return "blake2b-" + blake2b(self.value, digest_size=16).hexdigest()

    def header(self, name: str) -> str | None:
        """Return the first header of that name as text; None: there is none."""
        for key, value in self.headers:
            if key == name and value is not None:
                return value.decode("utf-8", "replace")
        return None


#: Fills in fields that records do not have; see ``mapping.WithDefaults``.
Completed = Callable[[Fields], Fields]


class Decoded(NamedTuple):
    """What one record holds: the ``events`` (none: the record is ignored), how many parts of it (spans, log records)
    are no requests, and the name of the ``codec`` that read it, where that was chosen per record."""

    events: Sequence[Fields]
    ignored_parts: int = 0
    codec: str = ""


@runtime_checkable
class Codec(Protocol):
    """Reads one format. Implementations are listed in ``registry``; ``pipeline.testing.check_codec`` checks one."""

    @property
    def name(self) -> str:
        """What ``codec`` is set to in the settings: lower case, digits and underscores."""
        ...

    @property
    def title(self) -> str:
        """The format's own name, for messages."""
        ...

    def recognises(self, record: RawRecord) -> bool:
        """Whether a record is of this format and of no other; cheap, and never raises."""
        ...

    def decode(self, record: RawRecord) -> Decoded:
        """Return the events in a record.

        Raises:
            EventRejected: the record is not of this format, or is of it and broken.
        """
        ...


class DecodedTogether(NamedTuple):
    """What a codec read of many records at once, all places being those in the values that it was given.

    ``taken`` (one for each value) marks the records that were read; the others are left to ``Codec.decode``.
    ``columns`` has their events, unchecked, in the order of records and of the events in each, and ``events`` for each
    row an event of the same server; ``event_of`` gives the event of a row. ``ignored``, ``ignored_parts``, ``refused``
    and ``unknown`` are as in ``reading.Reader``. ``codec`` is the name of the codec.
    """

    codec: str
    taken: NDArray[np.bool_]
    columns: EventColumns
    events: Sequence[RequestEvent]
    event_of: Callable[[int], RequestEvent]
    ignored: list[int]
    ignored_parts: list[tuple[int, int]]
    refused: list[tuple[int, EventRejected]]
    unknown: list[tuple[int, str]]


@runtime_checkable
class DecodesTogether(Protocol):
    """A codec that also reads many records at once, with the same outcome as one by one."""

    def decode_together(
        self, values: Sequence[bytes], dimensions: Sequence[str], completed: Completed | None = None
    ) -> DecodedTogether | None:
        """Return what was read of the records (values as fetched, empty where there is none); None: nothing.

        Args:
            values: the records' values.
            dimensions: names of event fields to keep apart in the key.
            completed: fills in fields of each event before it is converted.
        """
        ...


def parsed_json(value: bytes) -> Any:
    """Parse JSON of any shape, for the field that has an odd value to be judged, not the whole record.

    A number out of range becomes infinite. ``NaN`` and ``Infinity`` are taken as Python writes them, and half of a
    surrogate pair, which is left where a text was cut, becomes U+001A (substitute), which no name may have.

    Raises:
        EventRejected: it is not JSON.
    """
    try:
        return _JSON.decode(value)
    except msgspec.ValidationError:  # a number out of range: valid JSON all the same
        return _parsed_by_the_standard_library(value)
    except RecursionError as error:
        raise EventRejected(RejectReason.MALFORMED, "nested too deeply") from error
    except ValueError as error:  # msgspec.DecodeError and UnicodeDecodeError
        if any(mark in value for mark in _TAKEN_ALL_THE_SAME):
            return _parsed_by_the_standard_library(value)
        raise EventRejected(RejectReason.MALFORMED, f"not JSON: {str(error)[:160]}") from error


_TAKEN_ALL_THE_SAME = (b"NaN", b"Infinity", b"\\ud", b"\\uD")
_MOST_DIGITS = 400  # of a whole number; more would be slow to read, and are out of every bound


def _parsed_by_the_standard_library(value: bytes) -> Any:
    import json

    try:
        text = value.decode()
        parsed = json.loads(text, parse_int=_whole)
        if any(mark in value for mark in _TAKEN_ALL_THE_SAME[2:]):
            text = json.dumps(parsed, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            parsed = json.loads(text.replace("\ufffd", "\\u001a"))
    except RecursionError as error:
        raise EventRejected(RejectReason.MALFORMED, "nested too deeply") from error
    except ValueError as error:
        raise EventRejected(RejectReason.MALFORMED, f"not JSON: {str(error)[:160]}") from error
    return parsed


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < _MOST_DIGITS else int(digits[: _MOST_DIGITS - 1])


def epoch_nanoseconds(value: Any) -> float | None:
    """Return epoch seconds of whole nanoseconds (a number, or its text as OTLP JSON writes it); None: not one.

    >>> epoch_nanoseconds("1795984316500000000"), epoch_nanoseconds(0), epoch_nanoseconds("soon")
    (1795984316.5, None, None)
    """
    try:
        nanoseconds = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return nanoseconds / 1e9 if 0 < nanoseconds < 1 << 64 else None
