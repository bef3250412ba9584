"""Closes windows in order and passes them through the engine: store in, one recorded step out.

A step is closed in parts of some pools each, so that with thousands of pools the first advice need not wait for the
last: ``begin`` says which windows are next, ``close`` writes those of a part down, ``advise`` asks the engine, and
``record`` writes what came of all parts. What has been closed does not change any more: advice can be made again from
it, whenever the process ends. Between two steps ``revise`` asks the engine what the newest reports of fleets change,
and ``record_revision`` writes that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import islice

from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.errors import CodecError, StoreError
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.forecast.exogenous.rows import ExogenousRow
from pipeline.store.store import Store
from pipeline.stream.controller.calendar_topic import CalendarBook
from pipeline.stream.controller.closing_step import EngineState, Part, Step, joined
from pipeline.stream.controller.fleet_told import fleet_told
from pipeline.stream.controller.revisions import Revisions
from pipeline.stream.controller.snapshot_turns import SnapshotTurns
from pipeline.stream.exogenous.book import ExogenousBook
from pipeline.windows.completeness import LATENCY_REFRESH_SECONDS, LATENCY_SPAN_SECONDS, completeness
from pipeline.windows.latencies import told_fields
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window
from pipeline.windows.types import ClosedWindow, PoolKey

__all__ = ["FORGET_SECONDS", "POOLS_PER_PART", "WindowCloser"]

#: Pools that are closed, advised and published together, at most: a transaction and some queries are paid for each
#: part, and the last of its pools waits for all of them. A part has as many as are advised in ``PART_SECONDS`` of CPU,
#: but no fewer than ``LEAST_POOLS_PER_PART``, as many as the first part of a process has: its speed is not known yet.
#: With 0.3 s, pools were published 0.56 s (median) to 1.08 s (p99) after they had closed, beside 100 reads and 20,000
#: events a second (2 cores, 2026-12-01, benchmarks/api/results.md). What is advised does not depend on it.
POOLS_PER_PART = 64
LEAST_POOLS_PER_PART = 16
PART_SECONDS = 0.2

#: Pools whose windows are read together: a query costs as much as reading dozens of pools.
_POOLS_PER_READ = 512

#: A pool without settings that has sent nothing for so long gets no windows any more: two weeks and a day, so that one
#: that is used on one day of the week stays. Looked at anew every hour of event time.
FORGET_SECONDS = 15 * 86_400
_SILENCE_REFRESH_SECONDS = 3600


class WindowCloser:
    """Turns the store's open windows into steps, one window end at a time."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        advisor: Advisor,
        replicas: ReplicaBook,
        calendar: CalendarBook | None = None,
        exogenous: ExogenousBook | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._advisor = advisor
        self._replicas = replicas
        self._calendar = calendar or CalendarBook()
        self._exogenous = exogenous
        self._latency: dict[tuple[str, str], dict[int, int]] = {}
        self._latency_at: int | None = None
        self._configured = {(pool.model, pool.pool) for pool in settings.pools}
        #: The (model, pool) that were known, have no settings, and have sent nothing for ``FORGET_SECONDS``.
        self.gone: frozenset[tuple[str, str]] = frozenset()
        self._gone_at: int | None = None
        self._revisions = Revisions(settings, store, replicas)
        self._turns = SnapshotTurns(settings.store.snapshot_every_steps, settings.windows.grain_seconds)
        self._pool_seconds = 0.0  # of CPU that advising a pool takes, by the newest part
        self._behind = False  # more windows are due than the newest step's
        self._whole = True  # the engine has finished every step that it began, and the store has them

    def restore(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Bring the engine to where the store is.

        It continues from the newest snapshots, or from the first closed window when they cannot be used. Between steps
        ``stopped`` is asked whether to give up.
        """
        kept = self._store.snapshots()
        if kept is not None:
            # Made by another version or under other settings: learn again from the closed windows.
            with contextlib.suppress(CodecError):
                self._advisor = Advisor.restore(self._settings, kept.shared, self._advisor.catalog, kept.pools)
                grain = self._settings.windows.grain_seconds  # a pool that has seen a revision needs the step before
                self._turns.restored({key: at // grain * grain for key, (at, _) in kept.pools.items()})
        for inputs in self._store.inputs_since(-1 if self._advisor.as_of is None else self._advisor.as_of):
            if stopped():
                self._whole = False
                return
            if isinstance(inputs, StepInput):
                self._advisor.step(inputs)
            else:
                self._advisor.revise(inputs)

    def state(self) -> EngineState | None:
        """Return the state of the engine as it is now, at an orderly end: the next start has no step to do again.

        None: it is not that of the store; the next start continues from an older one.
        """
        as_of = self._advisor.as_of
        if not self._whole or as_of is None or as_of != self._store.last_closed():
            return None
        return EngineState(as_of, *self._state(self._advisor.pools), as_of, self._store.last_advised())

    def due_state(self) -> EngineState | None:
        """Return the state of the pools whose turn it is to be kept after the newest step; None: it is nobody's.

        ``keep`` must follow.
        """
        as_of, began = self._advisor.as_of, time.thread_time()
        if as_of is None:
            return None
        due = self._turns.due(self._advisor.pools, as_of, self._pool_seconds, behind=self._behind)
        if not due:
            return None
        state = EngineState(as_of, *self._state(due), self._turns.oldest)
        self._turns.took(time.thread_time() - began, len(due))
        return state

    def keep(self, state: EngineState) -> None:
        """Write the engine's state in one transaction.

        Raises:
            StoreError: it cannot be written; the next start continues from an older one.
        """
        self._store.save_snapshots(state.as_of, state.shared, state.pools, state.oldest, state.seen)

    def _state(self, pools: Collection[PoolKey]) -> tuple[bytes, dict[PoolKey, bytes]]:
        return self._advisor.shared_snapshot(), {key: self._advisor.pool_snapshot(key) for key in pools}

    def close_next(self, reached: float | None) -> StepOutput | None:
        """Close the first open window if event time has passed it by the allowed lateness; None: not yet.

        All in one thread; ``pipeline.stream.controller.controller`` does the same in turns.

        Raises:
            StoreError: the step cannot be written; what was closed of it stays so.
        """
        step = self.begin(reached)
        if step is None or reached is None:
            return None
        while True:
            last = self.is_last(step)
            part = self.read(step, reached)
            if last:
                self.advise(step, part)
                output = self.record(step)
                break
            self.close(step, part)
            self.advise(step, part)
        state = self.due_state()
        if state is not None:
            self.keep(state)
        return output

    def begin(self, reached: float | None) -> Step | None:
        """Begin the step that is due now that event time is at ``reached``; None: none is.

        A step that an earlier process has begun to close is due whatever ``reached`` is. Until the first part has been
        read nothing may be stored.

        Raises:
            StoreError: a step of this process was not finished; only a new process knows what has been learned of it.
        """
        if not self._whole:
            raise StoreError("a step was begun and not recorded: the engine is ahead of the store; starting again")
        begun = self._store.closing()
        end = self._due(reached) if begun is None else begun.as_of
        if end is None:
            return None
        calendar = self._calendar.changes(self._advisor.calendar, end) if begun is None else begun.calendar
        exogenous = self._given(end) if begun is None else begun.exogenous
        closed = {} if begun is None else {window.key: window for window in begun.windows}
        self._whole = False
        windows = self._settings.windows
        self._behind = reached is not None and reached >= end + windows.grain_seconds + windows.allowed_lateness_seconds
        self._advisor.begin(end, calendar, exogenous)
        self._store.touched.watch(end - self._settings.windows.grain_seconds, end)
        step = Step(end, calendar, [], closed, exogenous=exogenous)
        step.waiting = self._pools(step)
        return step

    def _given(self, end: int) -> tuple[ExogenousRow, ...]:
        known = self._advisor.exogenous
        if self._exogenous is None or known is None:
            return ()
        pools = self._advisor.pools
        return self._exogenous.take(known, end, lambda pool: pool in self._configured or PoolKey(*pool) in pools)

    def is_last(self, step: Step) -> bool:
        """Whether the next part is the last one of a step."""
        return len(step.waiting) <= self._size()

    def _size(self) -> int:
        if self._pool_seconds == 0.0:
            return min(LEAST_POOLS_PER_PART, POOLS_PER_PART)
        return max(
            min(LEAST_POOLS_PER_PART, POOLS_PER_PART), min(POOLS_PER_PART, int(PART_SECONDS / self._pool_seconds))
        )

    def read(self, step: Step, reached: float) -> Part:
        """Take the next part of a step from the store as it stands; nothing may be stored before it has been written.

        The last part holds every pool that has come up since the step began.
        """
        if self.is_last(step):
            known = {window.key for output in step.outputs for window in output.windows}
            part, step.waiting = [key for key in self._pools(step) if key not in known], []
        else:
            size = self._size()
            part, step.waiting = step.waiting[:size], step.waiting[size:]
        for key in self._store.touched.take():
            step.ahead.pop(key, None)
        wanted = [key for key in part if key not in step.closed]
        if not all(key in step.ahead for key in wanted):
            unread = (key for key in (*wanted, *step.waiting) if key not in step.closed and key not in step.ahead)
            found = self._windows(step.end, list(islice(unread, max(_POOLS_PER_READ, len(wanted)))), reached)
            step.ahead.update((window.key, window) for window in found)
        new = self._advisor.with_gaps([step.ahead.pop(key) for key in wanted])
        return Part((*(step.closed[key] for key in part if key in step.closed), *new), new)

    def close(self, step: Step, part: Part) -> None:
        """Write the windows of a part that is not the last in one transaction.

        Raises:
            StoreError: they cannot be written; nothing has changed in the store.
        """
        if part.new:
            self._store.close_windows(step.end, part.new, step.calendar, step.exogenous)

    def advise(self, step: Step, part: Part) -> StepOutput:
        """Return what the engine says to a part; writes nothing."""
        began = time.thread_time()
        step.outputs.append(self._advisor.advise(part.windows))
        if part.windows:
            self._pool_seconds = (time.thread_time() - began) / len(part.windows)
        return step.outputs[-1]

    def record(self, step: Step) -> StepOutput:
        """Write a step whose last part has been advised in one transaction; return all that it says.

        Raises:
            StoreError: it cannot be written; nothing has changed in the store.
        """
        self._advisor.finish()
        output = replace(joined(step.outputs), calendar=step.calendar, exogenous=step.exogenous)
        self._store.record_step(output)
        self._whole = True
        return output

    def revise(self, reached: float | None, now: float) -> StepOutput | None:
        """Return what the newest reports of fleets change in the advice of the last step; None: nothing, or not yet.

        Event time is at ``reached``, the clock at ``now`` (epoch seconds). Nothing is written; ``record_revision`` must
        follow what is returned.
        """
        if not self._whole or self._store.closing() is not None:
            return None  # a step is under way
        inputs = self._revisions.due(reached, now)
        if inputs is None:
            return None
        output = self._advisor.revise(inputs)
        if not output.readings:
            return None
        self._whole = False
        return output

    def record_revision(self, output: StepOutput) -> StepOutput:
        """Write a revision in one transaction; return what it says.

        Raises:
            StoreError: it cannot be written; nothing has changed in the store.
        """
        self._store.record_revision(output)
        self._whole = True
        return output

    def _due(self, reached: float | None) -> int | None:
        """The end (epoch seconds) of the window to close now that event time is at ``reached``; None: none."""
        start = self._store.first_open_window()
        windows = self._settings.windows
        if start is None or reached is None:
            return None
        if reached < start + windows.grain_seconds + windows.allowed_lateness_seconds:
            return None  # nor is a later one: asked twice a second, so the store is not
        end = self._after_silence(start) + windows.grain_seconds
        return None if reached < end + windows.allowed_lateness_seconds else end

    def _after_silence(self, start: int) -> int:
        """Return the window to close next: ``start``, or the next one that counts something after a long silence.

        A topic may hold traffic of last year and of today. Silence is closed window by window for as long as it takes
        to believe it; what is left of it until the next event is skipped, and is a gap to those who learn.
        """
        grain = self._settings.windows.grain_seconds
        believed = int(self._settings.advise.gap_accept_seconds)
        counted = self._store.next_counted(max(0, start - believed))
        if counted is None or counted - start <= believed:
            return start
        return counted // grain * grain

    @property
    def alert_rule_errors(self) -> dict[str, int]:
        """How often each alert rule of the engine failed since the process started."""
        return dict(self._advisor.rules.errors)

    def _pools(self, step: Step) -> list[PoolKey]:
        """The pools of a step as the store knows them now, sorted: all but those that are gone."""
        start = step.end - self._settings.windows.grain_seconds
        if self._gone_at is None or start - self._gone_at >= _SILENCE_REFRESH_SECONDS:
            self.gone = frozenset(self._store.silent_pools(start - FORGET_SECONDS) - self._configured)
            self._gone_at = start
        if self.gone:  # some may have come back
            self.gone -= {tuple(window.key) for window in self._store.window_sums(start, step.end, self.gone)}
        known = (PoolKey(*pool) for pool in self._store.pools() if pool not in self.gone)
        return sorted({*known, *step.closed})

    def _windows(self, end: int, pools: Collection[PoolKey], reached: float) -> list[ClosedWindow]:
        grain = self._settings.windows.grain_seconds
        start = end - grain
        found = {window.key: window for window in self._store.window_sums(start, end, pools)}
        latency = self._latencies(start)
        told = self._store.latency_counts(start, end, pools)
        known_until = end + self._settings.windows.allowed_lateness_seconds
        max_age = self._settings.advise.replica_report_max_age_seconds
        closed = []
        for key in pools:
            window = found.get(key) or closed_window(start, grain, *key, [0] * len(CLOSED_MEASURES))
            reported = fleet_told(self._replicas, key, (start, end), known_until - grain, known_until, max_age)
            closed.append(
                replace(
                    window,
                    completeness=completeness(latency.get(key, {}), start, grain, reached),
                    **reported._asdict(),
                    # By the event time at which it may close, not by what batches happened to bring: a replay agrees.
                    closed_after_seconds=known_until - end,
                    **told_fields(window, told.get(key, {})),
                )
            )
        return closed

    def _latencies(self, start: int) -> dict[tuple[str, str], dict[int, int]]:
        if self._latency_at is None or start - self._latency_at >= LATENCY_REFRESH_SECONDS:
            # The newest windows lack their slow requests: leave out what is younger than the allowed lateness.
            until = start - self._settings.windows.allowed_lateness_seconds
            self._latency = self._store.e2e_histogram(start - LATENCY_SPAN_SECONDS, until)
            self._latency_at = start
        return self._latency
