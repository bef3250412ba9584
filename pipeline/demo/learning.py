"""The demo's past: made in one process, learned in another by the very core that runs live.

The process that simulates the fleet writes the past as a stream of pickled ``PastWindows`` (``write_past``); the
controller reads it from a pipe and learns it (``HistoryLearner``), so that two cores share the work and the board is
served meanwhile. Only a parent process writes to that pipe.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.config.settings import Settings
from pipeline.demo.fleet import history
from pipeline.demo.scenario import Scenario
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput
from pipeline.pacing import Pacemaker
from pipeline.publish.health import PipelineHealth
from pipeline.publish.state import LiveState
from pipeline.publish.views import Progress
from pipeline.store.store import Store
from pipeline.windows.types import DeltaRows, HistogramColumns, WindowKey

__all__ = ["HistoryLearner", "PastWindows", "read_past", "write_past"]

#: Below this share of the past, how long it took says little about the rest: imports and first windows cost more.
_TELLING_SHARE = 0.05

#: Event time that is made, stored and learned at once: long enough for one transaction to be cheap, short enough for
#: the board to move all the time.
CHUNK_SECONDS = 1_800


@dataclass(frozen=True, slots=True)
class PastWindows:
    """A piece of the past up to ``end`` (epoch seconds): base rows for the store, closed windows for the engine."""

    end: int
    keys: list[WindowKey]
    rows: DeltaRows
    histograms: HistogramColumns
    steps: list[StepInput]


def write_past(fleet: Scenario, days: float, grain_seconds: int, sink: BinaryIO) -> None:
    """Write the ``days`` before the fleet's live start to ``sink`` and close it; a reader that is gone ends it."""
    try:
        with sink:
            for chunk in history(fleet, fleet.live_start - days * 86_400, fleet.live_start, CHUNK_SECONDS):
                steps = chunk.steps(grain_seconds)
                pickle.dump(PastWindows(chunk.end, chunk.keys, chunk.rows, chunk.histograms, steps), sink, protocol=5)
                sink.flush()
    except BrokenPipeError:
        return  # the reader has ended; whoever supervises it says why


def read_past(source: BinaryIO) -> Iterator[PastWindows]:
    """Yield what ``write_past`` wrote, until it was closed."""
    while source.peek(1):  # type: ignore[attr-defined]
        yield pickle.load(source)


class HistoryLearner:
    """Learns the past up to ``live_start``: stores it, steps the engine through it, and shows how far it is.

    Simulated time goes with it, so that the board shows the past as it was seen then. ``monotonic`` is wall seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        live: LiveState,
        pacemaker: Pacemaker,
        span: tuple[float, float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._pacemaker = pacemaker
        self._start, self._live_start = span
        self._monotonic = monotonic
        days = (self._live_start - self._start) / 86_400
        self._task = f"learning {days:g} simulated day{'' if days == 1 else 's'} of history"
        self._began: float | None = None

    def learn(self, past: Iterator[PastWindows], advisor: Advisor) -> None:
        """Learn ``past``, whose last piece ends at live start; the engine's state is in the store afterwards.

        Raises:
            StoreError: the store refused.
        """
        self._show(self._start)
        for piece in past:
            self._store.backfill(piece.keys, piece.rows, piece.histograms)
            outputs = []
            for step in piece.steps:
                outputs.append(advisor.step(step))
                self._show(step.as_of)
            self._store.record_steps(outputs, advisor.snapshot() if piece.end >= self._live_start else None)
            for output in outputs:
                self._live.update(output)
            self._pacemaker.stand_at(piece.end)
        self._live.set_progress(None)
        self._live.set_health(PipelineHealth(detail="joining the stream", starting=True, ledger_known=False))

    def _show(self, as_of: float) -> None:
        now = self._monotonic()
        if self._began is None:
            self._began = now
        share = (as_of - self._start) / (self._live_start - self._start)
        left = (now - self._began) * (1.0 - share) / share if share >= _TELLING_SHARE else None
        self._live.set_progress(Progress(self._task, share, left))
        self._live.set_health(PipelineHealth(detail=f"{self._task}: {share:.0%}", ledger_known=False))
