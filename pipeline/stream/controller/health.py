"""What the controller says about itself: the ledger, event-time progress, lag, and whether it is ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from pipeline.clock import Clock
from pipeline.config.settings import Settings
from pipeline.engine.types import StepOutput
from pipeline.events.request_event import DEFAULT_POOL
from pipeline.publish.health import PipelineHealth
from pipeline.store.apply import ApplyResult
from pipeline.store.store import Store
from pipeline.stream.controller.server_clocks import ServerClocks
from pipeline.windows.bridged import is_bridged
from pipeline.windows.types import PoolKey
from pipeline.windows.unknown_models import UnknownDemand, UnknownModels

__all__ = ["HealthBoard"]

#: Deltas (heartbeats at least) come all the time; this many heartbeats without any mean that no aggregator works.
_SILENT_HEARTBEATS = 8
_LEAST_SILENCE_SECONDS = 15.0
#: Joining a consumer group and hearing of every source partition takes so long at most; what is not ready later has a
#: fault that somebody must mend.
_START_SECONDS = 60.0
#: Unknown models with a smaller share of the requests are not logged, nor are more than so many.
_NAMED_RATIO = 0.01
_MOST_NAMED = 100

_log = logging.getLogger(__name__)


class HealthBoard:
    """Collects what happened since the start of this process and joins it with the store's ledger."""

    def __init__(self, settings: Settings, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._known = {PoolKey(pool.model, pool.pool) for pool in settings.pools}
        self._silence = max(_LEAST_SILENCE_SECONDS, _SILENT_HEARTBEATS * settings.stream.heartbeat_seconds)
        self._delta_at: float | None = None  # monotonic seconds
        self._began: float | None = None  # monotonic seconds
        self._was_ready = False
        self._gaps = 0
        self._unknown_model_events = 0
        self._unknown_models = UnknownModels(settings.pool_names())
        self._unknown_demand: UnknownDemand | None = None
        self._named: set[PoolKey] = set()
        self._events_replace: set[str] = set()
        self._write_seconds: float | None = None
        self._success: dict[str, float] = {}
        self._server_clocks = ServerClocks()
        #: What is wrong with this process's membership in its consumer group; empty: nothing.
        self.membership = ""

    def applied(self, result: ApplyResult, seconds: float) -> None:
        """Note one transaction and how long it took."""
        self._write_seconds = seconds
        self._gaps += len(result.gaps)
        now = self._success["store"] = self._clock.now()
        self._server_clocks.note(result.clock_offsets, now)
        if not result.positions or not all(is_bridged(source) for source, _ in result.positions):
            self._delta_at = time.monotonic()  # what a bridge writes does not show that an aggregator works
            self._success["aggregate"] = now

    def stepped(self, output: StepOutput) -> None:
        """Note one step of the engine, or a revision."""
        self._success["advise"] = self._clock.now()
        if output.readings:
            return  # a revision counts no requests
        unknown = (window.requests for window in output.windows if window.key not in self._known)
        self._unknown_model_events += sum(unknown)
        self._unknown_models.take(output.as_of, output.windows)
        self._name_unknown()

    def _name_unknown(self) -> None:
        """Log each unknown model that weighs something once."""
        report = self._unknown_demand = self._unknown_models.report()
        for found in report.models if report is not None else ():
            key = PoolKey(found.model, found.pool)
            if found.requests_ratio < _NAMED_RATIO or key in self._named or len(self._named) >= _MOST_NAMED:
                continue
            self._named.add(key)
            if found.similar is None:
                hint = "no configured pool looks like it"
            else:
                model, pool = found.similar
                hint = f"it looks like {model}/{pool}: an alias there would fold it in ({_alias_for(key, pool)!r})"
            _log.warning(
                "model %r of pool %r has no settings and %.0f %% of the requests; %s",
                found.model,
                found.pool,
                100.0 * found.requests_ratio,
                hint,
            )

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
        ledger = [row for row in self._store.ledger() if not is_bridged(row["topic"])]
        deltas = self._store.delta_ledger()
        totals = {
            name: sum(row[name] for row in ledger)
            for name in ("records", "events", "duplicates", "late", "lost", "ignored", "event_records")
        }
        detail = self._problem(complete, lag, blocked)
        notes = self._store.event_notes()
        self._name_bridged(notes)
        return PipelineHealth(
            ready=not detail,
            detail=detail,
            starting=self._starting(ready=not detail),
            watermark=watermark,
            dead_letters=self._store.dead_letter_reasons(),
            event_notes=notes,
            deltas_applied=sum(row["applied"] for row in deltas),
            deltas_dropped=sum(row["dropped"] for row in deltas),
            delta_gaps=self._gaps,
            lag_records=dict(lag),
            last_success=dict(self._success),
            store_write_seconds=self._write_seconds,
            unknown_model_events=self._unknown_model_events,
            server_clock_offsets=self._server_clocks.offsets(self._clock.now()),
            unknown_models=self._unknown_demand,
            **totals,
        )

    def _name_bridged(self, notes: Mapping[str, Mapping[str, int]]) -> None:
        """Log once of each pool that it has events, so that what a bridge tells of it no longer counts."""
        for name, requests in notes.get("bridge_ignored", {}).items():
            if requests and name not in self._events_replace:
                self._events_replace.add(name)
                _log.warning("pool %s has request events: what a bridge tells of it is ignored", name)

    def _starting(self, *, ready: bool) -> bool:
        """Whether not being ready is what any start looks like."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        self._was_ready = self._was_ready or ready
        return not self._was_ready and now - self._began < _START_SECONDS

    def _problem(self, complete: bool, lag: Mapping[tuple[str, int], int], blocked: int) -> str:
        if self.membership:
            return self.membership
        if blocked:
            return f"{blocked} delta partitions stopped at a gap"
        if not lag:
            return "no partitions are assigned"
        if not complete:
            return "not every source partition has reported"
        if self._delta_at is None or time.monotonic() - self._delta_at > self._silence:
            return f"no deltas for {self._silence:g} s: is an aggregator running, and has it been assigned partitions?"
        return ""


def _alias_for(unknown: PoolKey, pool: str) -> str:
    """The alias by which a pool of that name would take the unknown model."""
    return unknown.model if unknown.pool in (pool, DEFAULT_POOL) else f"{unknown.model}|{unknown.pool}"
