"""Which announced events are known at a step, and what changed since the one before it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.forecast.calendar.effects import CalendarRecord

__all__ = ["KEEP_SECONDS", "CalendarChange", "KnownCalendar"]

#: Events are remembered for so long after their end, in seconds of event time.
KEEP_SECONDS = 7 * 86_400.0
#: Beyond the horizons: an event acts from an hour before its start until three hours after its end.
_MARGIN_SECONDS = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class CalendarChange:
    """A record that became known (or replaces the one with its id), or one that was taken back (``removed``)."""

    record: CalendarRecord
    removed: bool = False


class KnownCalendar:
    """The announced events known so far, by id. Pickles; the same changes in the same order give the same calendar."""

    def __init__(self) -> None:
        self._records: dict[str, CalendarRecord] = {}

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> dict[str, CalendarRecord]:
        """What is known, by id (a copy)."""
        return dict(self._records)

    def apply(self, changes: Iterable[CalendarChange], as_of: float) -> None:
        """Take changes that became known at ``as_of`` (epoch seconds) and forget what ended long before it."""
        for change in changes:
            if change.removed:
                self._records.pop(change.record.id, None)
            else:
                self._records[change.record.id] = change.record
        over = [name for name, record in self._records.items() if record.ends_at + KEEP_SECONDS <= as_of]
        for name in over:
            del self._records[name]

    def changes(
        self,
        announced: Mapping[str, CalendarRecord],
        as_of: float,
        *,
        complete: bool,
        at_once: Collection[str] = (),
    ) -> tuple[CalendarChange, ...]:
        """How this calendar differs from what has been announced at ``as_of`` (epoch seconds), in order of id.

        A record counts from its ``announced_at`` on (at once where that is unknown, or its id is one of ``at_once``).
        Those that ended long ago are no news. With ``complete``, ``announced`` is everything there is, so a known event
        that it lacks was taken back.
        """
        found = [
            CalendarChange(record)
            for name, record in announced.items()
            if (record.announced_at is None or record.announced_at <= as_of or name in at_once)
            and record.ends_at + KEEP_SECONDS > as_of
            and self._records.get(name) != record
        ]
        if complete:
            found += [CalendarChange(r, removed=True) for name, r in self._records.items() if name not in announced]
        return tuple(sorted(found, key=lambda change: change.record.id))

    def near(self, as_of: float, reach_seconds: float) -> tuple[CalendarRecord, ...]:
        """The known events that can act within ``reach_seconds`` of ``as_of``, in order of start and id."""
        first, last = as_of - reach_seconds - _MARGIN_SECONDS, as_of + reach_seconds + _MARGIN_SECONDS
        found = [record for record in self._records.values() if record.ends_at > first and record.starts_at < last]
        return tuple(sorted(found, key=lambda record: (record.starts_at, record.id)))
