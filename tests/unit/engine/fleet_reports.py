"""A fleet that reports every 15 s, and the windows and readings that come of it; demand is a rate by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.engine.types import Reading, RevisionInput, StepInput
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.testing import closed_window
from pipeline.windows.types import PoolKey

LATENESS = 60
START = 1_700_000_040 // 60 * 60


@dataclass
class Reports:
    """``rate`` (requests/s) at seconds since ``START``; ``status`` changes what the fleet says of itself."""

    key: PoolKey
    rate: Callable[[int], float]
    replicas: int = 3
    queued: int | None = 0
    running: int = 20
    book: ReplicaBook = field(default_factory=ReplicaBook)
    total: float = 1_000.0
    at: int = 0

    def until(self, seconds: int) -> None:
        """Report up to ``seconds``."""
        while self.at < seconds:
            self.total += sum(self.rate(second) for second in range(self.at, self.at + 15))
            self.at += 15
            self.report(self.at, round(self.total))

    def report(self, seconds: float, total: int | None) -> None:
        """Report once."""
        self.book.add(
            ReplicaStatus(
                model=self.key.model,
                pool=self.key.pool,
                at=START + seconds,
                current=self.replicas,
                ready=self.replicas,
                queued_requests=self.queued,
                running_requests=self.running,
                requests_total=total,
            )
        )

    def step(self, end: int) -> StepInput:
        """Return the step of the window that ends at ``end`` seconds."""
        self.until(end + LATENESS)
        requests = round(sum(self.rate(second) for second in range(end - 60, end)))
        seen = self.reading(end, end + LATENESS)
        window = closed_window(
            START + end - 60,
            requests,
            model=self.key.model,
            pool=self.key.pool,
            current_replicas=seen.current_replicas,
            ready_replicas=seen.ready_replicas,
            fleet=seen.fleet,
            closed_after_seconds=62.0,
        )
        return StepInput(START + end, (window,))

    def reading(self, end: int, until: int) -> Reading:
        """Return what is known at ``until`` seconds for the window that ends at ``end``."""
        at = START + end
        report = self.book.report(self.key, START + until - 60, START + until, (at - 60, at))
        newest = None if report is None else report.counts[-1]
        return Reading(
            self.key, report, None if newest is None else newest.current, None if newest is None else newest.ready
        )

    def revision(self, end: int | None, after: int) -> RevisionInput:
        """Return the revision ``after`` seconds after the step of ``end`` (None: before the first one)."""
        base = 0 if end is None else end
        self.until(base + LATENESS + after)
        reading = self.reading(60 if end is None else end, base + LATENESS + after)
        return RevisionInput(START + base + after, None if end is None else START + end, (reading,))
