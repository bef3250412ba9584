"""Counters of one worker, logged periodically and readable by tests and by the watchdog."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

from pipeline.windows.types import Delta

__all__ = ["StreamStats"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class StreamStats:
    """What one aggregator has done since it started. ``lag`` is records not yet folded, by partition."""

    records: int = 0
    events: int = 0
    duplicates: int = 0
    lost: int = 0
    batches: int = 0
    deltas: int = 0
    heartbeats: int = 0
    realigned: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    ignored: int = 0
    ignored_parts: int = 0
    reused_ids: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    lag: dict[tuple[str, int], int] = field(default_factory=dict)

    def count(self, delta: Delta) -> None:
        """Add one delta that was written."""
        self.deltas += 1
        self.records += delta.records
        self.events += delta.events
        self.duplicates += delta.duplicates
        self.lost += delta.lost
        self.rejected.update(str(letter.reason) for letter in delta.dead_letters)
        self.ignored += delta.ignored
        self.ignored_parts += delta.ignored_parts
        self.reused_ids += delta.reused_ids
        self.unknown.update(delta.unknown)
        for codec in delta.codecs.keys() - self.codecs.keys():
            _log.info("%s: records are read as %s", delta.topic, codec)
        self.codecs.update(delta.codecs)

    def log(self) -> None:
        """Write one line with the totals."""
        _log.info(
            "records=%d events=%d duplicates=%d ignored=%d rejected=%s unknown=%s lost=%d batches=%d deltas=%d "
            "realigned=%d lag=%d",
            self.records,
            self.events,
            self.duplicates,
            self.ignored,
            dict(self.rejected),
            dict(self.unknown),
            self.lost,
            self.batches,
            self.deltas,
            self.realigned,
            sum(self.lag.values()),
        )
