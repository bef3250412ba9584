"""Plain fields to a request event: what can be converted is, what cannot becomes unknown, what is essential is refused.

Every codec ends here, so that the same value means the same whatever format it came in. An event is refused only where
counting it would be a guess: without an id, a model, a status or a place in time, or with token counts that are no
counts. Any other field of a wrong type or out of bounds becomes unknown (None) and is named in ``Converted.unknown``.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline.errors import EventRejected
from pipeline.events.request_event import (
    DEFAULT_POOL,
    MAX_LATENCY_SECONDS,
    MAX_TEXT_LENGTH,
    MAX_TOKENS,
    SCHEMA,
    RejectReason,
    RequestEvent,
)
from pipeline.events.units import looks_like

__all__ = ["TOKENS", "Converted", "convert", "rejected", "whole_number"]

#: The token counts that every request has; unknown ones are named in ``Converted.unknown`` where they are absent.
TOKENS = ("input_tokens", "output_tokens")
#: A duration this far below zero is two clocks that disagree: it counts as none at all.
NEGATIVE_TOLERANCE_SECONDS = 0.5

_TIMES = ("arrived_at", "completed_at")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_MOST_DIGITS = 40


class Converted(NamedTuple):
    """An event within the bounds of its type, and the names of fields whose values were there but unusable."""

    event: RequestEvent
    unknown: tuple[str, ...]


def convert(fields: Mapping[str, Any]) -> Converted:
    """Return the event that plain ``fields`` (names and units of ``RequestEvent``) describe; others are ignored.

    Bounds of single fields are enforced here, rules across fields are not (``check.settle``).

    Raises:
        EventRejected: an essential field is missing or unusable.
    """
    if fields.get("pool", DEFAULT_POOL) is None:  # as several codecs write it; all else would be looked at by itself
        fields = {**fields, "pool": DEFAULT_POOL}
    try:
        event = msgspec.convert(fields, RequestEvent)
    except msgspec.ValidationError:
        return _field_by_field(fields)
    return Converted(event, ()) if event.schema == SCHEMA else _field_by_field(fields)


def _field_by_field(fields: Mapping[str, Any]) -> Converted:
    schema = fields.get("schema")
    if schema is not None and schema != SCHEMA:
        raise EventRejected(RejectReason.UNKNOWN_SCHEMA, f"schema is {str(schema)[:64]!r}, not {SCHEMA!r}")
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for name, read in _ESSENTIAL.items():
        values[name] = read(name, fields.get(name))
    if values["model"] is None:
        if not fields.get("model_hint"):
            raise EventRejected(
                RejectReason.MISSING_FIELD,
                "missing required field `model`; where records name none, set it on the source",
            )
        values["model"] = _identifier("model", fields["model_hint"])
    for name, value in fields.items():
        optional = _OPTIONAL.get(name)
        if optional is None or value is None:
            continue
        values[name] = optional(value)
        if values[name] is None:
            unknown.append(name)
    values["e2e_seconds"] = _e2e(fields, unknown)
    return Converted(RequestEvent(**values), tuple(unknown))


def whole_number(value: Any) -> int | None:
    """Return a whole number in [0, ``MAX_TOKENS``] that a number (233.0, 1e3) or a text writes; None: it is none.

    >>> whole_number(233.0), whole_number("200"), whole_number(-1), whole_number(True), whole_number(37.25)
    (233, 200, None, None, None)
    """
    number = _number(value)
    if number is None or number != math.floor(number) or not 0 <= number <= MAX_TOKENS:
        return None
    return int(number)


def rejected(error: msgspec.ValidationError) -> EventRejected:
    """Turn msgspec's word on a field into the reason for a dead letter."""
    text = str(error)
    if "missing required field" in text or "length >= 1" in text:
        reason = RejectReason.MISSING_FIELD
    elif ">= 0" in text:
        reason = RejectReason.NEGATIVE
    elif "Number out of range" in text:
        reason = RejectReason.NOT_FINITE
    elif "<=" in text or "Integer value out of range" in text:
        reason = RejectReason.IMPLAUSIBLE
    else:
        reason = RejectReason.WRONG_TYPE
    return EventRejected(reason, text[:200])


def _number(value: Any) -> float | int | None:
    """A finite number, as itself or as text; a text of many digits is none."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
            return None
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _identifier(name: str, value: Any) -> str:
    if name == "event_id" and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value)) if isinstance(value, int) or value.is_integer() else value
    if value is None or value == "":
        raise EventRejected(RejectReason.MISSING_FIELD, f"missing required field `{name}`")
    return _name(name, value)


def _model(name: str, value: Any) -> str | None:
    return None if value is None else _identifier(name, value)


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {_kind(value)}; expected text")
    if len(value) > MAX_TEXT_LENGTH:
        raise EventRejected(
            RejectReason.IMPLAUSIBLE, f"{name} has {len(value)} characters, more than {MAX_TEXT_LENGTH}"
        )
    return value


def _pool(name: str, value: Any) -> str:
    if value is None:
        return DEFAULT_POOL
    if value == "":
        raise EventRejected(RejectReason.MISSING_FIELD, f"{name} is empty; leave it out for {DEFAULT_POOL!r}")
    return _name(name, value)


def _status(name: str, value: Any) -> str:
    if value is None:
        raise EventRejected(RejectReason.MISSING_FIELD, f"missing required field `{name}`")
    if not isinstance(value, str):
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {_kind(value)}; expected text")
    return value


def _tokens(name: str, value: Any) -> int | None:
    """A count that windows add up: unknown where it is not given, refused where it cannot be one."""
    if value is None:
        return None
    if isinstance(value, str):
        quoted = "a number in quotes" if _NUMBER.fullmatch(value[:_MOST_DIGITS]) else "text"
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {quoted}; expected a whole number or null")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {_kind(value)}; expected a whole number or null")
    if isinstance(value, float) and not math.isfinite(value):
        raise EventRejected(RejectReason.NOT_FINITE, f"{name} is {value}")
    if value < 0:
        raise EventRejected(RejectReason.NEGATIVE, f"{name} is {_digits(value)}; send null where it is unknown")
    if value > MAX_TOKENS:
        raise EventRejected(RejectReason.IMPLAUSIBLE, f"{name} is {_digits(value)}, more than {MAX_TOKENS}")
    if value != math.floor(value):
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {value}; expected a whole number")
    return int(value)


def _time(name: str, value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventRejected(RejectReason.WRONG_TYPE, f"{name} is {_kind(value)}; expected epoch seconds or RFC 3339")
    if not abs(value) <= sys.float_info.max:
        raise EventRejected(RejectReason.NOT_FINITE, f"{name} is {_digits(value)}")
    return float(value)


def _e2e(fields: Mapping[str, Any], unknown: list[str]) -> float | None:
    """The latency; where it cannot be one, the two times give it, and without them the event has no place in time."""
    value = fields.get("e2e_seconds")
    if value is None:
        return None
    number = _number(value)
    if number is not None and -NEGATIVE_TOLERANCE_SECONDS <= number <= MAX_LATENCY_SECONDS:
        return max(float(number), 0.0)
    if all(fields.get(name) is not None for name in _TIMES):
        unknown.append("e2e_seconds")
        return None
    if number is None:
        finite = not isinstance(value, float)
        reason = RejectReason.WRONG_TYPE if finite else RejectReason.NOT_FINITE
        raise EventRejected(reason, f"e2e_seconds is {_kind(value) if finite else value}; expected seconds")
    if number < 0:
        raise EventRejected(RejectReason.NEGATIVE, f"e2e_seconds is {_digits(number)}")
    raise EventRejected(
        RejectReason.IMPLAUSIBLE,
        f"e2e_seconds is {_digits(number)}, more than a day{looks_like(number, duration=True)}",
    )


def _seconds(value: Any) -> float | None:
    number = _number(value)
    return float(number) if number is not None and 0.0 <= number <= MAX_LATENCY_SECONDS else None


def _text(value: Any) -> str | None:
    """Informational text: numbers are written out, one text in a list is taken, long text is cut."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        value = str(value) if _number(value) is not None and abs(value) < 1e300 else None
    return value[:MAX_TEXT_LENGTH] if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "1": True, "0": False}.get(str(value)[:8].lower())


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _digits(value: float) -> str:
    """A number for a message: an integer of thousands of digits is not worth them (and Python refuses to write it)."""
    return str(value) if abs(value) < 1e24 or isinstance(value, float) else "a number of more than 24 digits"


_ESSENTIAL: dict[str, Callable[[str, Any], Any]] = {
    "event_id": _identifier,
    "model": _model,
    "status": _status,
    "pool": _pool,
    "input_tokens": _tokens,
    "output_tokens": _tokens,
    "arrived_at": _time,
    "completed_at": _time,
}


def _optional_readers() -> dict[str, Callable[[Any], Any]]:
    readers: dict[str, Callable[[Any], Any]] = {}
    for field in msgspec.structs.fields(RequestEvent):
        if field.name in _ESSENTIAL or field.name in ("schema", "e2e_seconds"):
            continue
        described = str(field.type)
        if "bool" in described:
            readers[field.name] = _flag
        elif "int" in described:
            readers[field.name] = whole_number
        elif "float" in described:
            readers[field.name] = _seconds
        else:
            readers[field.name] = _text
    return readers


_OPTIONAL = _optional_readers()
