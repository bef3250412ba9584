"""The demo's past on its way from one process to the other, and what the board shows meanwhile."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from pipeline.clock import ManualClock
from pipeline.config.settings import load
from pipeline.demo.fleet import history
from pipeline.demo.learning import HistoryLearner, read_past, write_past
from pipeline.demo.scenario import scenario
from pipeline.engine.advisor import Advisor
from pipeline.pacing import PaceLimits, Pacemaker
from pipeline.publish.api import status_data
from pipeline.publish.state import LiveState
from pipeline.store.store import Store

LIVE_START = 1_790_000_000 // 3600 * 3600.0
DAYS = 1 / 24
SPAN = (LIVE_START - 3600.0, LIVE_START)


@pytest.fixture
def fleet():
    return scenario("demo", LIVE_START)


def through_a_pipe(fleet, grain=60):
    read, write = os.pipe()
    threading.Thread(target=write_past, args=(fleet, DAYS, grain, os.fdopen(write, "wb"))).start()
    with os.fdopen(read, "rb") as source:
        yield from read_past(source)


@pytest.mark.slow
def test_the_past_arrives_whole(fleet):
    pieces = list(through_a_pipe(fleet))
    assert [piece.end for piece in pieces] == [LIVE_START - 1800, LIVE_START]
    (whole,) = history(fleet, SPAN[0], LIVE_START)
    assert [step.as_of for piece in pieces for step in piece.steps] == [s.as_of for s in whole.steps(60)]
    assert [step for piece in pieces for step in piece.steps] == whole.steps(60)
    assert sum(len(piece.rows.window) for piece in pieces) == len(whole.rows.window)


def test_a_reader_that_is_gone_ends_the_writer(fleet):
    read, write = os.pipe()
    os.close(read)
    write_past(fleet, DAYS, 60, os.fdopen(write, "wb"))  # no error


def test_an_empty_past_is_the_end_of_it():
    assert list(read_past(io.BufferedReader(io.BytesIO(b"")))) == []


@pytest.mark.slow
def test_learning_moves_time_shows_progress_and_leaves_the_engine_in_the_store(fleet):
    # Without pools nothing is sized, which is what takes long.
    settings = load(None)
    wall = ManualClock(1_000.0)
    pacemaker = Pacemaker(SPAN[0], 60.0, PaceLimits.of(settings), monotonic=wall.now)
    live = LiveState(pacemaker)
    seen = []

    class Watched(Advisor):
        def step(self, inputs):
            wall.advance(0.5)
            status = status_data(live.snapshot())
            seen.append((status["progress"]["share"], status["progress"]["remaining_seconds"], status["now"]))
            return super().step(inputs)

    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        advisor = Watched(settings)
        learner = HistoryLearner(settings, store, live, pacemaker, SPAN, monotonic=wall.now)
        learner.learn(through_a_pipe(fleet), advisor)

        shares, left, times = zip(*seen, strict=True)
        assert list(shares) == pytest.approx([n / 60 for n in range(60)])
        assert left[0] is None
        assert left[30] == pytest.approx(15.0)
        assert sorted(set(times)) == [SPAN[0], LIVE_START - 1800]
        status = status_data(live.snapshot())
        assert (status["progress"], status["as_of"], status["now"]) == (None, LIVE_START, LIVE_START)
        assert status["ready"] is False, "it has not joined the stream yet"
        kept = store.snapshots()
        assert kept.as_of == LIVE_START == store.last_closed()
        assert Advisor.restore(settings, kept.shared).as_of == LIVE_START


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pipeline.cli.main", "pipeline.publish.api", "pipeline.demo.run"])
def test_what_answers_first_imports_nothing_heavy(module):
    import subprocess
    import sys

    heavy = ("scipy", "river", "plotly", "faust")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
