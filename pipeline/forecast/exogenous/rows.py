"""Rows from outside: forecasts of other programs and values of signals, each with the time at which it became known.

A row may be used from the time at which it became known, never before; that time is part of it, so that a replay cannot
know more than the live run did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from pipeline.forecast.types import SeriesKey, Signal

__all__ = [
    "EXTERNAL_SCHEMA",
    "SIGNAL_SCHEMA",
    "ExogenousRow",
    "ExternalForecast",
    "Refusal",
    "RowRefused",
    "SignalValue",
    "parse_row",
    "to_fields",
]

EXTERNAL_SCHEMA = "tokentide.external_forecast.v1"
SIGNAL_SCHEMA = "tokentide.signal_value.v1"

#: How far a row may be ahead of the record that carried it: clocks differ.
_MAX_AHEAD_SECONDS = 60.0
_MAX_VALUE = 1e15
_MAX_TIME = 1e12
_MOST_LEVELS = 99
_MAX_NAME = 256


class Refusal(StrEnum):
    """Why a row is not taken."""

    MALFORMED = "malformed"
    OUT_OF_RANGE = "out_of_range"
    NOT_ASCENDING = "not_ascending"
    UNKNOWN_SERIES = "unknown_series"
    UNKNOWN_SIGNAL = "unknown_signal"
    FROM_THE_FUTURE = "from_the_future"
    AFTER_TARGET = "after_target"
    TOO_MANY = "too_many"


class RowRefused(ValueError):
    """A row that cannot be used; ``reason`` says why in one word, the text in a sentence."""

    def __init__(self, reason: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ExternalForecast:
    """Quantiles of one series for the window that ends at ``target_at``, by another program.

    Times are epoch seconds; ``levels`` and ``values`` ascend and enclose the median; values are rates as
    ``pipeline.forecast.types.Signal`` names them. ``known_at`` is no earlier than ``issued_at`` and before
    ``target_at``.
    """

    series: SeriesKey
    issued_at: float
    known_at: float
    target_at: float
    levels: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value at level 0.5; between the neighbouring levels where it is not one of them."""
        above = next(at for at, level in enumerate(self.levels) if level >= 0.5)
        if self.levels[above] == 0.5:
            return self.values[above]
        low, high = self.levels[above - 1], self.levels[above]
        share = (0.5 - low) / (high - low)
        return self.values[above - 1] + share * (self.values[above] - self.values[above - 1])


@dataclass(frozen=True, slots=True)
class SignalValue:
    """The value that a signal has from ``at`` on (epoch seconds), which became known at ``known_at``."""

    name: str
    at: float
    known_at: float
    value: float


ExogenousRow = ExternalForecast | SignalValue


def parse_row(raw: Mapping[str, Any], received_at: float | None = None) -> ExogenousRow:
    """Read a decoded JSON object of ``schemas/external-forecast.v1`` or ``schemas/signal-value.v1``.

    Args:
        raw: the object; ``schema`` says which of the two it is, without it the field ``quantiles`` does.
        received_at: when the record that carried it was written (epoch seconds): it was not known before. None: a file,
            whose own ``known_at`` counts, or else ``issued_at``, of a signal ``at``.

    >>> parse_row({"signal": "orders", "at": 60, "value": 2.5})
    SignalValue(name='orders', at=60.0, known_at=60.0, value=2.5)

    Raises:
        RowRefused: a field is missing, unknown or out of range, quantiles do not ascend, the row is from the future, or
            it became known only after its target.
    """
    schema = raw.get("schema")
    if schema not in (None, EXTERNAL_SCHEMA, SIGNAL_SCHEMA):
        raise _malformed(f"schema must be {EXTERNAL_SCHEMA} or {SIGNAL_SCHEMA}, not {str(schema)[:64]!r}")
    if schema == EXTERNAL_SCHEMA or (schema is None and "quantiles" in raw):
        return _external(raw, received_at)
    return _signal(raw, received_at)


def to_fields(row: ExogenousRow) -> dict[str, Any]:
    """Return a row as a JSON object that ``parse_row`` reads back to an equal one."""
    if isinstance(row, SignalValue):
        return {
            "schema": SIGNAL_SCHEMA, "signal": row.name, "at": row.at, "known_at": row.known_at, "value": row.value
        }  # fmt: skip
    return {
        "schema": EXTERNAL_SCHEMA,
        "model": row.series.model,
        "pool": row.series.pool,
        "signal": str(row.series.signal),
        "issued_at": row.issued_at,
        "known_at": row.known_at,
        "target_at": row.target_at,
        "quantiles": {str(level): value for level, value in zip(row.levels, row.values, strict=True)},
    }


def _external(raw: Mapping[str, Any], received_at: float | None) -> ExternalForecast:
    _only(raw, {"schema", "model", "pool", "signal", "issued_at", "known_at", "target_at", "quantiles"})
    signal = _text(raw, "signal", str(Signal.REQUESTS))
    if signal not in set(Signal):
        raise RowRefused(Refusal.UNKNOWN_SERIES, f"signal {signal[:64]!r} is none of {', '.join(Signal)}")
    issued_at, target_at = _time(raw, "issued_at"), _time(raw, "target_at")
    known_at = _known_at(raw, issued_at, received_at)
    if received_at is not None and issued_at > received_at + _MAX_AHEAD_SECONDS:
        raise RowRefused(Refusal.FROM_THE_FUTURE, f"issued_at {issued_at:.0f} is after the record, {received_at:.0f}")
    if known_at < issued_at:
        if received_at is None:
            raise _malformed(f"known_at {known_at:.0f} must not be before issued_at {issued_at:.0f}")
        known_at = issued_at
    if target_at <= known_at:
        detail = f"the forecast for {target_at:.0f} became known at {known_at:.0f}, which is not before"
        raise RowRefused(Refusal.AFTER_TARGET, detail)
    levels, values = _quantiles(raw.get("quantiles"))
    series = SeriesKey(_text(raw, "model"), _text(raw, "pool", "default"), Signal(signal))
    return ExternalForecast(series, issued_at, known_at, target_at, levels, values)


def _signal(raw: Mapping[str, Any], received_at: float | None) -> SignalValue:
    _only(raw, {"schema", "signal", "at", "known_at", "value"})
    at = _time(raw, "at")
    return SignalValue(_text(raw, "signal"), at, _known_at(raw, at, received_at), _number(raw, "value", -_MAX_VALUE))


def _known_at(raw: Mapping[str, Any], otherwise: float, received_at: float | None) -> float:
    stated = None if raw.get("known_at") is None else _time(raw, "known_at")
    if received_at is None:
        return otherwise if stated is None else stated
    if stated is not None and stated > received_at + _MAX_AHEAD_SECONDS:
        raise RowRefused(Refusal.FROM_THE_FUTURE, f"known_at {stated:.0f} is after the record, {received_at:.0f}")
    return received_at if stated is None else max(stated, received_at)


def _quantiles(raw: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(raw, Mapping) or not 0 < len(raw) <= _MOST_LEVELS:
        raise _malformed(f"quantiles must be an object of 1 to {_MOST_LEVELS} levels, such as {{'0.5': 12.0}}")
    try:
        pairs = sorted((float(level), _number(raw, level, 0.0)) for level in raw)
    except (TypeError, ValueError) as error:
        if isinstance(error, RowRefused):
            raise
        raise _malformed("the levels of quantiles must be numbers between 0 and 1, such as '0.5'") from error
    levels, values = tuple(level for level, _ in pairs), tuple(value for _, value in pairs)
    if not all(0.0 < level < 1.0 for level in levels) or len(set(levels)) < len(levels):
        raise RowRefused(Refusal.OUT_OF_RANGE, "the levels of quantiles must be distinct and between 0 and 1")
    if any(later < earlier for earlier, later in pairwise(values)):
        raise RowRefused(Refusal.NOT_ASCENDING, f"quantiles must ascend with their levels, not {values[:9]}")
    if not levels[0] <= 0.5 <= levels[-1]:
        raise _malformed("quantiles must hold level 0.5, or levels on both sides of it")
    return levels, values


def _only(raw: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(str(name)[:64] for name in raw if name not in known)
    if unknown:
        raise _malformed(
            f"{', '.join(unknown[:5])} is not a field of such a row; the fields are {', '.join(sorted(known))}"
        )


def _text(raw: Mapping[str, Any], name: str, otherwise: str | None = None) -> str:
    value = raw.get(name, otherwise)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
        raise _malformed(f"{name} must be a text of 1 to {_MAX_NAME} printable characters")
    return value


def _number(raw: Mapping[str, Any], name: Any, least: float) -> float:
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(f"{name} must be a number, not {type(value).__name__}")
    if not (least <= value <= _MAX_VALUE) or not math.isfinite(value):
        raise RowRefused(Refusal.OUT_OF_RANGE, f"{name} must be finite and from {least:g} to {_MAX_VALUE:g}")
    return float(value)


def _time(raw: Mapping[str, Any], name: str) -> float:
    value = _number(raw, name, 0.0)
    if value >= _MAX_TIME:
        raise RowRefused(Refusal.OUT_OF_RANGE, f"{name} must be epoch seconds, not {value:g}")
    return value


def _malformed(detail: str) -> RowRefused:
    return RowRefused(Refusal.MALFORMED, detail)
