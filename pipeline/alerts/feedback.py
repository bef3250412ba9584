"""What operators say about alerts: false or useful, as events with their time. Pure.

A mark travels as a record of the calendar topic, of a kind of its own: it is kept, replayed and restored with the
announced events, takes effect in the step in which it became known, and is no event to any forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.alerts.types import AlertKind
from pipeline.forecast.calendar.effects import MAX_NAME, CalendarRecord, Scope

__all__ = [
    "ALERT_ID_PATTERN",
    "MAX_ALERT_ID",
    "AlertFeedback",
    "NotRaisedYetError",
    "Verdict",
    "feedback_in",
    "feedback_record",
    "is_feedback",
]

_KIND = "alert_feedback"
#: Characters of an alert_id that can be marked: with the kind before it, it is the id of a record of the calendar.
MAX_ALERT_ID = MAX_NAME - len(f"{_KIND}|")
#: Marks are records of an instant; a record of the calendar must last.
_LASTS_SECONDS = 1.0
#: Kinds of alerts that can be marked: those that a budget of false alerts stands behind.
_MARKED = (AlertKind.SPIKE_OBSERVED, AlertKind.DEMAND_DROP)

#: An alert_id that can be marked, as a regular expression of JSON Schema; ``$`` also fits before a last line feed.
ALERT_ID_PATTERN = rf"^(?:{'|'.join(_MARKED)})\|[\s\S]+\|[^|]+\|[0-9]{{1,12}}$(?!\n)"


class NotRaisedYetError(ValueError):
    """A mark of an alert that is raised only after it."""


class Verdict(StrEnum):
    """What an alert was."""

    FALSE = "false"
    USEFUL = "useful"


@dataclass(frozen=True, slots=True)
class AlertFeedback:
    """One mark: the alert of this pool that was raised at ``raised_at`` (event time, epoch seconds) was ``verdict``."""

    model: str
    pool: str
    raised_at: float
    verdict: Verdict


def is_feedback(record: CalendarRecord) -> bool:
    """Whether a record of the calendar is a mark, or means to be one, and no event."""
    return record.kind.partition(":")[0] == _KIND


def feedback_record(alert_id: str, verdict: str, marked_at: float) -> CalendarRecord:
    """The record that marks the alert ``alert_id`` at ``marked_at`` (epoch seconds); a later mark replaces it.

    >>> feedback_record("spike_observed|m|p|60", "false", 120.0).kind
    'alert_feedback:false'

    Raises:
        NotRaisedYetError: the alert is raised after ``marked_at``.
        ValueError: ``alert_id`` is not that of an observed spike or a drop, or ``verdict`` is neither false nor useful.
    """
    if verdict not in tuple(Verdict):
        raise ValueError(f"an alert is marked {' or '.join(Verdict)}, not {verdict[:64]!r}")
    model, pool, raised_at = _parts(alert_id)
    if marked_at < raised_at:
        raise NotRaisedYetError(f"an alert raised at {raised_at:.0f} cannot be marked before it, at {marked_at:.0f}")
    return CalendarRecord(
        id=f"{_KIND}|{alert_id}",
        kind=f"{_KIND}:{verdict}",
        starts_at=marked_at,
        ends_at=marked_at + _LASTS_SECONDS,
        scope=Scope(model, pool),
        announced_at=marked_at,
    )


def feedback_in(record: CalendarRecord) -> AlertFeedback | None:
    """The mark in a record; None where it is none that can be understood."""
    kind, _, verdict = record.kind.partition(":")
    prefix, _, alert_id = record.id.partition("|")
    if kind != _KIND or prefix != _KIND or verdict not in tuple(Verdict):
        return None
    try:
        model, pool, raised_at = _parts(alert_id)
    except ValueError:
        return None
    return AlertFeedback(model, pool, raised_at, Verdict(verdict))


def _parts(alert_id: str) -> tuple[str, str, float]:
    """Model, pool and time of an alert's identity."""
    kind, _, rest = alert_id.partition("|")
    name, _, raised_at = rest.rpartition("|")
    model, _, pool = name.rpartition("|")
    if kind not in _MARKED:
        raise ValueError(f"only alerts of kind {' or '.join(_MARKED)} can be marked, not {alert_id[:64]!r}")
    if not (model and pool and raised_at.isdecimal() and raised_at.isascii() and len(raised_at) <= 12):
        raise ValueError(f"{alert_id[:64]!r} is not the alert_id of an alert")
    return model, pool, float(raised_at)
