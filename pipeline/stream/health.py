"""What the controller says about itself: the ledger, event-time progress, lag, and whether it is ready."""

from __future__ import annotations

import time
from collections.abc import Mapping

from pipeline.advise.model import StepOutput
from pipeline.clock import Clock
from pipeline.publish.state import PipelineHealth
from pipeline.settings import Settings
from pipeline.store.apply import ApplyResult
from pipeline.store.store import Store

__all__ = ["HealthBoard"]

#: Deltas (heartbeats at least) come all the time; this many heartbeats without any mean that no aggregator works.
_SILENT_HEARTBEATS = 8
_LEAST_SILENCE_SECONDS = 15.0


class HealthBoard:
    """Collects what happened since the start of this process and joins it with the store's ledger."""

    def __init__(self, settings: Settings, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._known = {(pool.model, pool.pool) for pool in settings.pools}
        self._silence = max(_LEAST_SILENCE_SECONDS, _SILENT_HEARTBEATS * settings.stream.heartbeat_seconds)
        self._delta_at: float | None = None  # monotonic seconds
        self._gaps = 0
        self._unknown_model_events = 0
        self._write_seconds: float | None = None
        self._success: dict[str, float] = {}

    def applied(self, result: ApplyResult, seconds: float) -> None:
        """Note one transaction and how long it took."""
        self._delta_at = time.monotonic()
        self._write_seconds = seconds
        self._gaps += len(result.gaps)
        self._success["aggregate"] = self._success["store"] = self._clock.now()

    def stepped(self, output: StepOutput) -> None:
        """Note one step of the engine."""
        self._success["advise"] = self._clock.now()
        unknown = (window.requests for window in output.windows if tuple(window.key) not in self._known)
        self._unknown_model_events += sum(unknown)

    def published(self) -> None:
        """Note that results were published."""
        self._success["publish"] = self._clock.now()

    def read(
        self, watermark: float | None, complete: bool, lag: Mapping[tuple[str, int], int], blocked: int
    ) -> PipelineHealth:
        """Return the health now; runs in the writer thread, since it reads the store.

        ``complete``: every source partition has reported. ``lag`` is in delta records. ``blocked`` counts the delta
        partitions that stopped at a gap.
        """
        ledger = self._store.ledger()
        deltas = self._store.delta_ledger()
        totals = {
            name: sum(row[name] for row in ledger) for name in ("records", "events", "duplicates", "late", "lost")
        }
        detail = self._problem(complete, lag, blocked)
        return PipelineHealth(
            ready=not detail,
            detail=detail,
            watermark=watermark,
            dead_letters=self._store.dead_letter_reasons(),
            deltas_applied=sum(row["applied"] for row in deltas),
            deltas_dropped=sum(row["dropped"] for row in deltas),
            delta_gaps=self._gaps,
            lag_records=dict(lag),
            last_success=dict(self._success),
            store_write_seconds=self._write_seconds,
            unknown_model_events=self._unknown_model_events,
            **totals,
        )

    def _problem(self, complete: bool, lag: Mapping[tuple[str, int], int], blocked: int) -> str:
        if blocked:
            return f"{blocked} delta partitions stopped at a gap"
        if not lag:
            return "no partitions are assigned"
        if not complete:
            return "not every source partition has reported"
        if self._delta_at is None or time.monotonic() - self._delta_at > self._silence:
            return f"no deltas for {self._silence:g} s: is an aggregator running?"
        return ""
