"""A codec from settings: each event field from a path in the record's JSON, in a unit, or a constant.

::

    [stream.mapping]
    event_id = "request.uuid"
    arrived_at = { path = "ts", unit = "ms" }
    e2e_seconds = { path = "took", unit = "ms" }
    input_tokens = "usage.in"
    status = { path = "result", values = { success = "ok", throttled = "rejected" }, otherwise = "error" }
    pool = { constant = "chat" }

A path is names joined by dots, with ``[0]`` for places in lists; a name that has dots itself is found as it is, so
``gen_ai.request.model`` reads the flat key as well as the nested one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.errors import ConfigError, EventRejected
from pipeline.events.codecs.base import Codec, Completed, Decoded, DecodedTogether, DecodesTogether, Fields, RawRecord
from pipeline.events.codecs.values import count, number, text, time
from pipeline.events.convert import TOKENS
from pipeline.events.request_event import RejectReason, RequestEvent

__all__ = ["FieldSource", "MappingCodec", "WithDefaults", "parse_mapping"]

#: How many of a unit are one second.
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_FIELDS = {f.name: str(f.type) for f in msgspec.structs.fields(RequestEvent)}
_TIMES = ("arrived_at", "completed_at")
_NEEDED = ("model",)
#: Defaults that say the same of every request of a kind.
_TOGETHER = frozenset(("model", "pool"))
_STEP = re.compile(r"\[(\d{1,6})\]|([^.\[\]]+)")
_MOST_PATH = 256


@dataclass(frozen=True, slots=True)
class FieldSource:
    """Where one event field comes from.

    ``path`` in the record's JSON, or ``constant``. ``unit`` of a number of time (s, ms, us, ns). ``values`` replaces
    what was found by what it stands for, ``otherwise`` what ``values`` does not list; ``default`` stands where nothing
    was found.
    """

    path: str = ""
    constant: str | int | float | bool | None = None
    unit: str = "s"
    values: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    otherwise: str | int | float | bool | None = None
    default: str | int | float | bool | None = None


def parse_mapping(table: Mapping[str, Any]) -> dict[str, FieldSource]:
    """Return a mapping from plain data: field to a path, or to a table of ``FieldSource``'s members.

    Raises:
        ConfigError: it names every entry that cannot work.
    """
    found: dict[str, FieldSource] = {}
    problems = []
    for name, stated in table.items():
        try:
            found[name] = _field_source(name, {"path": stated} if isinstance(stated, str) else stated)
        except (ValueError, msgspec.ValidationError) as error:
            problems.append(f"{name}: {error}")
    if not problems:
        problems = [f"{name} is needed" for name in _NEEDED if name not in found]
        if sum(name in found for name in (*_TIMES, "e2e_seconds")) < 2:
            problems.append("two of arrived_at, completed_at and e2e_seconds are needed")
    if problems:
        raise ConfigError(f"mapping: {'; '.join(problems)}")
    return found


def _field_source(name: str, stated: Any) -> FieldSource:
    if name not in _FIELDS or name == "schema":
        raise ValueError("not a field of a request event")
    source = msgspec.convert(stated, FieldSource)
    unknown = set(stated) - set(FieldSource.__dataclass_fields__)
    if unknown:
        raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
    if bool(source.path) == (source.constant is not None):
        raise ValueError("needs either a path or a constant")
    if len(source.path) > _MOST_PATH or (source.path and not _steps(source.path)):
        raise ValueError(f"{source.path[:64]!r} is not a path; expected names joined by dots")
    if source.unit not in UNITS:
        raise ValueError(f"unit is {source.unit!r}; expected one of {', '.join(UNITS)}")
    if source.unit != "s" and name not in _TIMES and not name.endswith("_seconds"):
        raise ValueError(f"{name} is not a time and has no unit")
    return source


def _steps(path: str) -> list[str | int]:
    path = path.removeprefix("$.").removeprefix("$")
    return [int(index) if index else name for index, name in _STEP.findall(path)]


class MappingCodec:
    """Reads records by a mapping; one JSON object per record."""

    name = "mapping"
    title = "mapping of the settings"

    def __init__(self, mapping: Mapping[str, FieldSource]) -> None:
        self._constants = {name: source.constant for name, source in mapping.items() if not source.path}
        self._sources = [(name, source, _steps(source.path)) for name, source in mapping.items() if source.path]
        self._has_id = "event_id" in mapping

    def recognises(self, record: RawRecord) -> bool:
        """Whether the record is a JSON object: what a mapping is meant for cannot be recognised."""
        return record.is_object()

    def decode(self, record: RawRecord) -> Decoded:
        """Return the event that the mapping makes of a record.

        Raises:
            EventRejected: it is not a JSON object.
        """
        root = record.object()
        fields: dict[str, Any] = dict(self._constants)
        for name, source, steps in self._sources:
            value = _found(root, source.path, steps)
            if value is None:
                value = source.default
            elif source.values:
                value = source.values.get(_key(value), value if source.otherwise is None else source.otherwise)
            fields[name] = _plain(name, value, source.unit)
        if not self._has_id:
            fields["event_id"] = record.digest()
        fields.setdefault("status", "ok")
        fields.setdefault("source", self.name)
        return Decoded((fields,))


def _found(root: Any, path: str, steps: list[str | int]) -> Any:
    if isinstance(root, dict) and path in root:
        return root[path]
    for step in steps:
        if isinstance(step, int):
            root = root[step] if isinstance(root, list) and step < len(root) else None
        else:
            root = root.get(step) if isinstance(root, dict) else None
        if root is None:
            return None
    return root


def _key(value: Any) -> str:
    """A value as it is named in ``values``: true, 200."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plain(name: str, value: Any, unit: str) -> Any:
    """A value in the event's terms: in seconds, a count of text (access logs write it), a placeholder as unknown."""
    if isinstance(value, str) and text(value) is None:
        return None
    if name in TOKENS and isinstance(value, str | int | float) and not isinstance(value, bool):
        return value if isinstance(value, str) and number(value) is None else count(value)
    if unit == "s" or value is None:
        return value
    found = number(value)
    if found is not None:
        return found / UNITS[unit]
    found = time(value) if name in _TIMES else None
    return value if found is None else found


class WithDefaults:
    """A codec whose events take fields that the record does not have from the source's settings."""

    def __init__(self, codec: Codec, defaults: Mapping[str, Any]) -> None:
        self._codec = codec
        self._defaults = dict(defaults)
        self.name = codec.name
        self.title = codec.title

    def recognises(self, record: RawRecord) -> bool:
        """Whether the codec recognises the record."""
        return self._codec.recognises(record)

    def decode(self, record: RawRecord) -> Decoded:
        """Return the codec's events with the defaults in place of what is unknown.

        Raises:
            EventRejected: the codec refuses the record.
        """
        decoded = self._codec.decode(record)
        return decoded._replace(events=[self._completed(fields) for fields in decoded.events])

    def decode_together(
        self, values: Sequence[bytes], dimensions: Sequence[str], completed: Completed | None = None
    ) -> DecodedTogether | None:
        """Return what the codec reads of many records at once, with the defaults; see ``base.DecodesTogether``."""
        together = completed is None and _TOGETHER.issuperset(self._defaults)
        if not together or not isinstance(self._codec, DecodesTogether):
            return None
        return self._codec.decode_together(values, dimensions, self._completed)

    def _completed(self, fields: Fields) -> Fields:
        if not isinstance(fields, Mapping):
            raise EventRejected(RejectReason.MALFORMED, f"the codec {self.name} gave no fields")
        missing = {name: value for name, value in self._defaults.items() if fields.get(name) is None}
        return {**fields, **missing}
