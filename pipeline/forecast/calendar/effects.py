"""Announced events (launches, campaigns, holidays, matches) and what they do to demand, learned per kind. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.forecast.context import Floats
from pipeline.forecast.delay import DelayRing
from pipeline.forecast.types import SeriesKey

__all__ = ["MAX_NAME", "SCHEMA", "CalendarEffects", "CalendarRecord", "Scope", "parse_record", "to_fields"]

SCHEMA = "tokentide.calendar.record.v1"
#: Characters of an id or a kind.
MAX_NAME = 256

_BEFORE, _DURING, _AFTER = 4, 8, 12
#: Between the bins; before the first and behind the last one there is no effect.
_KNOTS = _BEFORE + _DURING + _AFTER - 1
_BIN_SECONDS = 900.0
_PRIOR_VARIANCE = 0.25
_CORRELATION_KNOTS = 8.0
# Events differ in size, and residuals near one another are alike: noise counts this many times.
_INFLATION = 5.0
_DRIFT = 1e-6
_MAX_KINDS = 16
_MAX_EFFECT = 3.0
_MAX_RESIDUAL = 1.5
_NOISE_RATE = 0.01
_MAX_TEXT = 4096
# Neighbouring moments of an event are alike.
_PRIOR: Floats = _PRIOR_VARIANCE * np.exp(
    -0.5 * ((np.arange(_KNOTS)[:, None] - np.arange(_KNOTS)) / _CORRELATION_KNOTS) ** 2
) + 1e-4 * np.eye(_KNOTS)
_MAX_SIZE = 100.0
#: Later times are none.
_TIMES_END = 1e12
#: Numbers that may be null.
_OPTIONAL = ("expected_size", "announced_at")


class Scope(NamedTuple):
    """Which pools an event concerns; None: all of them."""

    model: str | None = None
    pool: str | None = None

    def covers(self, series: SeriesKey) -> bool:
        """Whether the event concerns ``series``."""
        return self.includes(series.model, series.pool)

    def includes(self, model: str, pool: str) -> bool:
        """Whether the event concerns this pool of this model."""
        return self.model in (None, model) and self.pool in (None, pool)


@dataclass(frozen=True, slots=True)
class CalendarRecord:
    """One announced event.

    Times are epoch seconds. ``expected_size`` is the announced demand during the event over the usual one (2 is
    double); None is unknown. ``confidence``, in (0, 1], is how sure the announcement is; effects are scaled by it.
    ``announced_at`` is since when it is known: no earlier window looks ahead to it. None: known from the start.

    Raises:
        ValueError: a field is out of range.
    """

    id: str
    kind: str
    starts_at: float
    ends_at: float
    expected_size: float | None = None
    confidence: float = 1.0
    scope: Scope = field(default_factory=Scope)
    source: str = ""
    note: str = ""
    announced_at: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be an event."""
        for name, text in (("id", self.id), ("kind", self.kind)):
            if not 0 < len(text) <= MAX_NAME:
                raise ValueError(f"{name} must have 1 to {MAX_NAME} characters, not {len(text)}")
        if max(len(self.source), len(self.note)) > _MAX_TEXT:
            raise ValueError(f"source and note may have {_MAX_TEXT} characters")
        for name, time in (("starts_at", self.starts_at), ("ends_at", self.ends_at)):
            if not 0.0 <= time < _TIMES_END:
                raise ValueError(f"{name} must be from 0 to less than {_TIMES_END:.0f} epoch seconds, not {time:.15g}")
        if not self.starts_at < self.ends_at:
            raise ValueError(f"an event must end after it starts, not from {self.starts_at} to {self.ends_at}")
        if not 0.0 < self.confidence <= 1.0:
            raise ValueError(f"confidence must be in (0, 1], not {self.confidence}")
        if self.expected_size is not None and not 1.0 / _MAX_SIZE <= self.expected_size <= _MAX_SIZE:
            raise ValueError(f"expected_size must be in [0.01, 100], not {self.expected_size}")
        if self.announced_at is not None and not 0.0 <= self.announced_at < _TIMES_END:
            raise ValueError(f"announced_at must be epoch seconds, not {self.announced_at}")


def parse_record(raw: Mapping[str, Any]) -> CalendarRecord:
    """The record in a decoded JSON object (``schemas/calendar.v1.schema.json``).

    >>> parse_record({"id": "a", "kind": "launch", "starts_at": 0, "ends_at": 60, "scope": {"model": "m"}}).scope
    Scope(model='m', pool=None)

    Raises:
        ValueError: a field is missing, unknown, of the wrong type or out of range; the text names it.
    """
    texts = {"id", "kind", "source", "note"}
    numbers = {"starts_at", "ends_at", "expected_size", "confidence", "announced_at"}
    fields: dict[str, Any] = {}
    for name, value in raw.items():
        if name == "schema":
            if value != SCHEMA:
                raise ValueError(f"schema must be {SCHEMA}, not {str(value)[:64]!r}")
            continue
        if name == "scope":
            fields[name] = _scope(value)
        elif name in texts and isinstance(value, str):
            fields[name] = value
        elif name in numbers and isinstance(value, int | float) and not isinstance(value, bool):
            if abs(value) > 1e15:
                raise ValueError(f"{name} is out of range")
            fields[name] = float(value)
        elif name not in _OPTIONAL or value is not None:
            raise ValueError(f"{name!r} is not a field of a calendar record, or {type(value).__name__} is not its type")
    missing = sorted({"id", "kind", "starts_at", "ends_at"} - fields.keys())
    if missing:
        raise ValueError(f"a calendar record needs {', '.join(missing)}")
    return CalendarRecord(**fields)


def to_fields(record: CalendarRecord) -> dict[str, Any]:
    """The record as a JSON object (``schemas/calendar.v1.schema.json``); what is unknown or empty is left out.

    >>> parse_record(to_fields(CalendarRecord("a", "launch", 0.0, 60.0))).kind
    'launch'
    """
    scope = {name: value for name, value in record.scope._asdict().items() if value is not None}
    fields = {
        "schema": SCHEMA,
        "id": record.id,
        "kind": record.kind,
        "starts_at": record.starts_at,
        "ends_at": record.ends_at,
        "expected_size": record.expected_size,
        "confidence": record.confidence,
        "announced_at": record.announced_at,
        "scope": scope or None,
        "source": record.source or None,
        "note": record.note or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _scope(raw: object) -> Scope:
    if raw is None:
        return Scope()
    if not isinstance(raw, Mapping) or not raw.keys() <= {"model", "pool"}:
        raise ValueError("scope must be an object of model and pool")
    if not all(value is None or isinstance(value, str) for value in raw.values()):
        raise ValueError("scope's model and pool must be strings")
    return Scope(raw.get("model"), raw.get("pool"))


@dataclass(slots=True)
class _Kind:
    """What is known about one kind: log effects per knot (of a record of one doubling), their covariance."""

    mean: Floats = field(default_factory=lambda: np.zeros(_KNOTS))
    covariance: Floats = field(default_factory=_PRIOR.copy)


#: Of one moment: how strongly each kind's knots act, and the announced log effect.
_Moment = tuple[dict[str, Floats], float]


class CalendarEffects:
    """Multipliers of demand around events, for one series.

    The logarithm of a multiplier is the announced size during the event plus, per kind, a learned course (knots in the
    hour before the start, at eighths of the event, in the three hours after its end; straight between them), times the
    size in doublings (1 where it is not announced) and the confidence. Demand over its multiplier is what the rest of
    the forecaster sees; its forecasts are multiplied again. The course is learned by a Kalman filter from the
    logarithmic residuals of matured forecasts, which tell the effect at the target minus the effect at the origin; its
    prior is smooth and around zero (a Gaussian process: Rasmussen and Williams 2006), which shrinks what few events
    have shown; all events of a kind share the course. Several events of one kind at the same moment count as one:
    simultaneous matches draw one audience.

    Args:
        steps: horizons in windows.
        grain_seconds: width of a window.
    """

    def __init__(self, steps: NDArray[np.int64], grain_seconds: float) -> None:
        self._steps = steps
        self._grain = grain_seconds
        self._kinds: dict[str, _Kind] = {}
        self._noise: Floats = np.full(steps.size, 0.05**2)
        self._ring = DelayRing(steps, 2)
        self._records: tuple[CalendarRecord, ...] = ()

    def set(self, records: Iterable[CalendarRecord], series: SeriesKey, end: float) -> None:
        """Keep those of ``records`` that concern ``series`` around ``end`` and until the longest horizon after it."""
        reach = float(self._steps[-1]) * self._grain
        first, last = end - reach - _AFTER * _BIN_SECONDS, end + reach + _BEFORE * _BIN_SECONDS
        near = (record for record in records if record.ends_at > first and record.starts_at < last)
        kept = {record.id: record for record in near if record.scope.covers(series)}
        self._records = tuple(sorted(kept.values(), key=lambda record: (record.starts_at, record.id)))

    def log_multiplier(self, end: float) -> float:
        """The logarithm of the multiplier of the window that ends at ``end``."""
        return self._effect(self._moment(end)) if self._records else 0.0

    def issue(self, index: int, end: float) -> Floats:
        """Log multipliers of the targets of window ``index`` that ended at ``end``, shape ``(horizons,)``.

        They are remembered until ``issued`` asks for them.
        """
        ahead = np.array([self.log_multiplier(end + step * self._grain) for step in self._steps.tolist()])
        self._ring.put(index, ahead, np.zeros((ahead.size, 1)))
        return ahead

    def issued(self, index: int) -> Floats:
        """The log multipliers that forecasts of window ``index`` were given, shape ``(horizons,)``; 0 where none."""
        rows, exist = self._ring.take(index)
        return np.where(exist, rows[:, 0].astype(np.float64), 0.0)

    def learn(self, end: float, y: float, points: Sequence[float], matured: NDArray[np.bool_]) -> None:
        """Learn from forecasts of the window that ended at ``end``.

        Args:
            end: epoch seconds.
            y: its value over its multiplier.
            points: what was forecast of that, per horizon.
            matured: for which horizons there was a forecast.
        """
        target: _Moment = self._moment(end) if self._records else ({}, 0.0)
        for at, step in enumerate(self._steps.tolist()):
            point = points[at]
            if not matured[at] or y <= 0.0 or point <= 0.0:
                continue
            residual = min(max(math.log(y / point), -_MAX_RESIDUAL), _MAX_RESIDUAL)
            origin: _Moment = self._moment(end - step * self._grain) if self._records else ({}, 0.0)
            kinds = target[0].keys() | origin[0].keys()
            if kinds:
                self._correct(residual, float(self._noise[at]) * step * _INFLATION, target[0], origin[0], sorted(kinds))
            else:
                self._noise[at] += _NOISE_RATE * (residual * residual - self._noise[at])

    def _correct(
        self, residual: float, noise: float, target: dict[str, Floats], origin: dict[str, Floats], kinds: list[str]
    ) -> None:
        """One step of the filter; labels overlap, which is why the caller multiplies the noise by the horizon."""
        nothing = np.zeros(_KNOTS)
        spread = max(noise, 1e-6)
        parts = []
        for name in kinds:
            kind = self._kinds.get(name)
            if kind is None:
                if len(self._kinds) >= _MAX_KINDS:
                    continue
                kind = self._kinds[name] = _Kind()
            acts = target.get(name, nothing) - origin.get(name, nothing)
            towards = np.add.reduce(kind.covariance * acts, axis=1)
            spread += float(np.add.reduce(acts * towards))
            parts.append((kind, towards))
        for kind, towards in parts:
            kind.mean += towards * (residual / spread)
            kind.mean = np.minimum(np.maximum(kind.mean, -_MAX_EFFECT), _MAX_EFFECT)
            kind.covariance -= np.multiply.outer(towards, towards) / spread
            diagonal = kind.covariance.reshape(-1)[:: _KNOTS + 1]
            diagonal += np.minimum(_DRIFT, np.maximum(_PRIOR_VARIANCE - diagonal, 0.0))

    def _effect(self, moment: _Moment) -> float:
        acts, effect = moment
        for name, strengths in acts.items():
            kind = self._kinds.get(name)
            if kind is not None:
                effect += float(np.add.reduce(strengths * kind.mean))
        return min(max(effect, -_MAX_EFFECT), _MAX_EFFECT)

    def _moment(self, end: float) -> _Moment:
        acts: dict[str, Floats] = {}
        announced = 0.0
        for record in self._records:
            # The middle of the window decides.
            position = _position(record, end - 0.5 * self._grain)
            if position is None:
                continue
            strength = record.confidence
            if record.expected_size is not None:
                strength *= math.log2(record.expected_size)
                if _BEFORE <= position < _BEFORE + _DURING:
                    effect = record.confidence * math.log(record.expected_size)
                    announced = effect if abs(effect) > abs(announced) else announced
            strengths = acts.setdefault(record.kind, np.zeros(_KNOTS))
            left = int(position)
            for knot, share in ((left - 1, left + 1 - position), (left, position - left)):
                if 0 <= knot < _KNOTS and abs(share * strength) > abs(strengths[knot]):
                    strengths[knot] = share * strength
        return acts, announced


def _position(record: CalendarRecord, at: float) -> float | None:
    """Where in the record's course the moment ``at`` lies, in bins from its beginning; None: outside of it."""
    if at < record.starts_at:
        position = _BEFORE - (record.starts_at - at) / _BIN_SECONDS
    elif at < record.ends_at:
        position = _BEFORE + _DURING * (at - record.starts_at) / (record.ends_at - record.starts_at)
    else:
        position = _BEFORE + _DURING + (at - record.ends_at) / _BIN_SECONDS
    return position if 0.0 < position < _BEFORE + _DURING + _AFTER else None
