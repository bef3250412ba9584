"""Closes windows in order and passes them through the engine: store in, one recorded step out.

A step has three parts: ``due`` says which window is next, ``step`` reads it and asks the engine, ``record`` writes what
came of it. One step at a time; deltas may be stored while ``step`` runs, but none with rows of the window being closed
(``pipeline.stream.held``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

from pipeline.advise.engine import Advisor
from pipeline.advise.model import StepInput, StepOutput
from pipeline.errors import CodecError
from pipeline.settings import Settings
from pipeline.store.store import Store
from pipeline.stream.calendar import CalendarBook
from pipeline.stream.replicas import ReplicaBook
from pipeline.windows.completeness import completeness
from pipeline.windows.latencies import with_latencies
from pipeline.windows.model import ClosedWindow, PoolKey
from pipeline.windows.rollup import CLOSED_MEASURES, closed_window

__all__ = ["FORGET_SECONDS", "Step", "WindowCloser"]

#: Latencies are learned from the hour before a window, anew every ten minutes of event time.
_LATENCY_SPAN_SECONDS = 3600
_LATENCY_REFRESH_SECONDS = 600

#: A pool without settings that has sent nothing for so long gets no windows any more: two weeks and a day, so that one
#: that is used on one day of the week stays. Looked at anew every hour of event time.
FORGET_SECONDS = 15 * 86_400
_SILENCE_REFRESH_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Step:
    """What the engine said, not yet recorded; ``snapshot`` is its state before the step (None: not this time)."""

    output: StepOutput
    snapshot: bytes | None


class WindowCloser:
    """Turns the store's open windows into steps, one window end at a time."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        advisor: Advisor,
        replicas: ReplicaBook,
        calendar: CalendarBook | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._advisor = advisor
        self._replicas = replicas
        self._calendar = calendar or CalendarBook()
        self._latency: dict[tuple[str, str], dict[int, int]] = {}
        self._latency_at: int | None = None
        self._configured = {(pool.model, pool.pool) for pool in settings.pools}
        #: The (model, pool) that were known, have no settings, and have sent nothing for ``FORGET_SECONDS``.
        self.gone: frozenset[tuple[str, str]] = frozenset()
        self._gone_at: int | None = None
        self._steps = 0
        self._whole = True  # the engine has finished every step that it began, and the store has them

    def restore(self) -> StepOutput | None:
        """Bring the engine to where the store is; returns the last step said again (None: there was none).

        It continues from the newest snapshot, or from the first closed window when the snapshot cannot be used. After
        an orderly end there is nothing to step again, and the last step is said as the store has it.
        """
        blob = self._store.latest_snapshot()
        if blob is not None:
            # Made by another version or under other settings: learn again from the closed windows.
            with contextlib.suppress(CodecError):
                self._advisor = Advisor.restore(self._settings, blob[1], self._advisor.catalog)
        output = None
        for inputs in self._store.closed_since(-1 if self._advisor.as_of is None else self._advisor.as_of):
            output = self._advisor.step(inputs)
        return output or self._store.last_output()

    def save(self) -> None:
        """Keep the engine's state as it is now, at an orderly end: the next start has no step to do again.

        Raises:
            StoreError: it cannot be written; the next start continues from an older snapshot.
        """
        if self._whole and self._advisor.as_of is not None and self._advisor.as_of == self._store.last_closed():
            self._store.save_snapshot(self._advisor.as_of, self._advisor.snapshot())

    def close_next(self, reached: float | None) -> StepOutput | None:
        """Close the first open window if event time has passed it by the allowed lateness; None: not yet.

        Raises:
            StoreError: the step cannot be written; nothing has changed in the store.
        """
        end = self.due(reached)
        if end is None or reached is None:
            return None
        step = self.step(end, reached)
        self.record(step)
        return step.output

    def due(self, reached: float | None) -> int | None:
        """Return the end (epoch seconds) of the window to close now that event time is at ``reached``; None: none."""
        start = self._store.first_open_window()
        windows = self._settings.windows
        if start is None or reached is None:
            return None
        end = self._after_silence(start) + windows.grain_seconds
        return None if reached < end + windows.allowed_lateness_seconds else end

    def step(self, end: int, reached: float) -> Step:
        """Read the window that ends at ``end`` as it stands and pass it through the engine; writes nothing."""
        start = end - self._settings.windows.grain_seconds
        # The snapshot is the state before this step: after a restart at least one step is said again, which fills the
        # live state and publishes what a crash may have kept from being published.
        snapshot = None
        if self._steps % self._settings.store.snapshot_every_steps == 0 and self._advisor.as_of is not None:
            snapshot = self._advisor.snapshot()
        self._whole = False
        changes = self._calendar.changes(self._advisor.calendar, end)
        return Step(self._advisor.step(StepInput(end, tuple(self._windows(start, end, reached)), changes)), snapshot)

    def record(self, step: Step) -> None:
        """Write a step in one transaction.

        Raises:
            StoreError: it cannot be written; nothing has changed in the store.
        """
        self._store.record_step(step.output, step.snapshot)
        self._steps += 1
        self._whole = True

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

    def _windows(self, start: int, end: int, reached: float) -> list[ClosedWindow]:
        grain = self._settings.windows.grain_seconds
        found = {window.key: window for window in self._store.window_sums(start, end)}
        self._look_for_gone(start, found.keys())
        for model, pool in self._store.pools():
            key = PoolKey(model, pool)
            if key not in found and key not in self.gone:
                found[key] = closed_window(start, grain, model, pool, [0] * len(CLOSED_MEASURES))
        latency = self._latencies(start)
        told = self._store.latency_counts(start, end)
        known_until = end + self._settings.windows.allowed_lateness_seconds
        closed = []
        for key in sorted(found):
            current, ready = self._replicas.at(key, known_until)
            share = completeness(latency.get((key.model, key.pool), {}), start, grain, reached)
            window = replace(found[key], completeness=share, current_replicas=current, ready_replicas=ready)
            closed.append(with_latencies(window, told.get((key.model, key.pool), {})))
        return closed

    def _look_for_gone(self, start: int, heard: Collection[PoolKey]) -> None:
        if self._gone_at is None or start - self._gone_at >= _SILENCE_REFRESH_SECONDS:
            self.gone = frozenset(self._store.silent_pools(start - FORGET_SECONDS) - self._configured)
            self._gone_at = start
        self.gone = self.gone.difference(heard)

    def _latencies(self, start: int) -> dict[tuple[str, str], dict[int, int]]:
        if self._latency_at is None or start - self._latency_at >= _LATENCY_REFRESH_SECONDS:
            # The newest windows lack their slow requests: leave out what is younger than the allowed lateness.
            until = start - self._settings.windows.allowed_lateness_seconds
            self._latency = self._store.e2e_histogram(start - _LATENCY_SPAN_SECONDS, until)
            self._latency_at = start
        return self._latency
