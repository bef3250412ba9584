"""Files of announced events, for commands that look at a past or a trace."""

from __future__ import annotations

from pathlib import Path

from pipeline.calendar_import.files import Defaults, read_records
from pipeline.cli.common import counted, notice
from pipeline.forecast.calendar.effects import CalendarRecord

__all__ = ["announced_events"]

#: Recurring events are followed so long after the end.
_BEYOND_SECONDS = 90 * 86_400.0


def announced_events(path: Path, end: float) -> list[CalendarRecord]:
    """Return the events of a file around data that ends at ``end`` (epoch seconds); says what was skipped.

    Raises:
        InputError: the file cannot be read, or is not what its name says.
    """
    found = read_records(path, Defaults(), end + _BEYOND_SECONDS)
    for reason in found.skipped:
        notice(f"skipped: {reason}")
    notice(f"{counted(len(found.records), 'announced event')} from {path.name}")
    return list(found.records)
