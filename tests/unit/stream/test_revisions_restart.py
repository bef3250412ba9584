"""Advice that reports of the fleet raised between two steps: killed anywhere, the rest of it is the same."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.packing import unpack
from pipeline.store.store import Store
from pipeline.stream.controller import snapshot_turns
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.testing import PipelineTestDriver, request_event

NOW = 1_700_000_040  # the start of a minute
LATENESS = 30.0
MINUTES, CROWD = 12, 9  # a crowd comes 20 seconds into that minute
POOLS = ("crowded", "steady")


def rate(pool: str, second: int) -> int:
    """Requests that come in a second."""
    return 12 if pool == "crowded" and second >= 60 * CROWD + 20 else 1


def events() -> Iterator[bytes]:
    source = random.Random(3)
    for second in range(60 * MINUTES):
        for pool in POOLS:
            for number in range(rate(pool, second)):
                at = NOW + second + source.random()
                event: dict[str, Any] = request_event(
                    f"{pool}{second}-{number}", at, model=pool, input_tokens=900, output_tokens=300
                )
                yield json.dumps(event).encode()


def reports() -> ReplicaBook:
    """Every 15 seconds: one replica, by the router's count, and what has come beyond 3 requests/s waits."""
    book = ReplicaBook()
    for pool in POOLS:
        total = queued = 0
        for second in range(60 * (MINUTES + 2)):
            if second % 15 == 7:
                book.add(
                    ReplicaStatus(
                        model=pool,
                        at=float(NOW + second),
                        current=1,
                        ready=1,
                        queued_requests=queued,
                        running_requests=4,
                        requests_total=total,
                    )
                )
            total += rate(pool, second)
            queued = max(0, queued + rate(pool, second) - 3)
    return book


@pytest.fixture(scope="module")
def settings() -> Settings:
    pools = tuple(
        PoolSettings(model=pool, profile="llama-3.1-8b", accelerator="L4", max_replicas=40, lead_time_seconds=60.0)
        for pool in POOLS
    )
    made = load(
        None,
        windows={"allowed_lateness_seconds": LATENESS},
        store={"snapshot_every_steps": 3},
        forecast={"horizons_seconds": (60, 300)},
    )
    return made.model_copy(update={"pools": pools})


@pytest.fixture(scope="module")
def filled(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all events and no step."""
    path = tmp_path_factory.mktemp("revisions") / "filled.duckdb"
    with Store.open(path, settings.store, settings.windows) as store:
        driver = PipelineTestDriver(store, now=NOW + 60 * (MINUTES + 2))
        driver.produce(0, list(events()))
        driver.finish()
    return path


def states_of(advisor: Advisor) -> dict[str, bytes]:
    """The state of each pool, as it is read back: to the last bit, whatever of it is one object in memory."""

    def plain(state: Any) -> bytes:
        written = io.BytesIO()
        pickler = pickle.Pickler(written, protocol=4)
        pickler.fast = True  # no references to what was written before
        pickler.dump(state)
        return written.getvalue()

    return {key.model: plain(unpack(advisor.pool_snapshot(key))) for key in sorted(advisor.pools)}


class Controller:
    """Closes and revises as the controller does, and may be killed between any two of its writes."""

    def __init__(self, path: Path, settings: Settings, book: ReplicaBook) -> None:
        self.store = Store.open(path, settings.store, settings.windows)
        self.closer = WindowCloser(settings, self.store, Advisor(settings), book)
        self.told_again = self.store.last_output()
        self.closer.restore()

    def turn(self, reached: float) -> StepOutput | None:
        """One write at most: a step, or else a revision."""
        output = self.closer.close_next(reached)
        if output is None:
            output = self.closer.revise(reached, reached)
            if output is not None:
                self.closer.record_revision(output)
        return output

    def end(self) -> None:
        """An orderly end."""
        state = self.closer.state()
        if state is not None:
            self.closer.keep(state)

    def states(self) -> dict[str, bytes]:
        """The state of each pool."""
        return states_of(self.closer._advisor)


def times() -> Iterator[float]:
    """Event time goes on by 5 seconds, from when the second window is due."""
    yield from (NOW + 60 + LATENESS + 5.0 * number for number in range(12 * (MINUTES - 2) + 11))


def whole(path: Path, settings: Settings) -> tuple[list[StepOutput], dict[str, bytes]]:
    controller = Controller(path, settings, reports())
    said = []
    for reached in times():
        while (output := controller.turn(reached)) is not None:
            said.append(output)
    states = controller.states()
    controller.store.close()
    return said, states


@pytest.fixture(scope="module")
def uninterrupted(filled: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("whole") / "whole.duckdb"
    shutil.copy(filled, path)
    said, states = whole(path, settings)
    return said, states, path


@pytest.mark.slow
def test_a_crowd_raises_advice_between_two_windows(uninterrupted: Any) -> None:
    said, _, _ = uninterrupted
    raised = [output for output in said if output.readings]
    assert raised
    assert {advice.model for output in raised for advice in output.recommendations} == {"crowded"}
    first = raised[0]
    crowd = NOW + 60 * CROWD + 20
    assert first.as_of + LATENESS <= crowd + 45, "the window of the crowd closes 70 seconds after it came"
    before = next(o for o in reversed(said) if o.as_of < first.as_of)
    was = {advice.model: advice.desired for advice in before.recommendations}
    assert all(advice.desired > was[advice.model] for advice in first.recommendations)
    assert [output.as_of for output in said] == sorted({output.as_of for output in said})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7))
def test_killed_anywhere_the_rest_is_the_same(
    seed: int, uninterrupted: Any, filled: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_turns, "_POOLS_PER_SNAPSHOT", 1)  # pools are kept one after the other
    wanted, states, whole_path = uninterrupted
    source = random.Random(seed)
    path = tmp_path / "killed.duckdb"
    shutil.copy(filled, path)
    revised = [number for number, output in enumerate(wanted) if output.readings]
    # After a step, after a revision, before the step that follows one, and anywhere; some of them orderly. Once an
    # orderly end after a revision is followed by kills after which pools have states of different ages.
    ends = dict.fromkeys((revised[0] - 1, revised[-1], *source.sample(range(len(wanted)), 4)), False)
    ends = {number: source.random() < 0.5 for number in ends} | {revised[0]: seed % 2 == 0}
    if seed == 0:
        ends = {revised[0]: True} | dict.fromkeys(range(revised[0] + 1, len(wanted)), False)
    said: list[StepOutput] = []
    controller = Controller(path, settings, reports())
    for reached in times():
        while (output := controller.turn(reached)) is not None:
            said.append(output)
            if len(said) - 1 not in ends:
                continue
            if ends[len(said) - 1]:
                controller.end()
            controller.store.close()
            controller = Controller(path, settings, reports())
            # It was written and perhaps not published: it is told again, with the newest advice of each pool.
            told = controller.told_again
            assert told is not None
            newest = {}
            for one in said:
                newest |= {advice.model: advice for advice in one.recommendations}
            assert {advice.model: advice for advice in told.recommendations} == newest
    assert said == wanted, "advice, scores and scorecards"
    assert controller.states() == states
    controller.store.close()
    with Store.open(path) as one, Store.open(whole_path) as other:
        for table in ("readings", "recommendations", "closed_windows", "steps", "forecasts", "alerts"):
            rows = [s.cursor().execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for s in (one, other)]
            assert rows[0] == rows[1], table


@pytest.mark.slow
def test_the_state_of_an_orderly_end_says_which_revision_it_has_seen(
    filled: Path, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "ended.duckdb"
    shutil.copy(filled, path)
    controller = Controller(path, settings, reports())
    for reached in times():
        output = controller.turn(reached)
        if output is not None and output.readings:
            break
    assert output is not None
    controller.end()
    kept = controller.store.snapshots()
    controller.store.close()
    assert kept is not None
    assert {at for at, _ in kept.pools.values()} == {output.as_of}
    assert kept.as_of == output.as_of // 60 * 60, "what pools share is as the step has left it"


@pytest.mark.slow
def test_a_full_fleet_is_raised_before_the_first_window_closes(
    filled: Path, settings: Settings, tmp_path: Path
) -> None:
    """What it said is there after a restart, also at once, and the first step goes on from it."""
    book = ReplicaBook()
    for second in range(7, 180, 15):
        for pool in POOLS:
            queued = 6 * second if pool == "crowded" else 0
            told = {"queued_requests": queued, "running_requests": 8, "requests_total": 3 * second}
            book.add(ReplicaStatus(model=pool, at=float(NOW + second), current=1, ready=1, **told))
    runs = []
    for kill in (False, True):
        path = tmp_path / f"first{kill}.duckdb"
        shutil.copy(filled, path)
        controller = Controller(path, settings, book)
        said = []
        for reached in range(NOW, NOW + 60 + int(LATENESS) + 59, 5):
            while (output := controller.turn(float(reached))) is not None:
                said.append(output)
                if kill:
                    controller.store.close()
                    controller = Controller(path, settings, book)
                    assert controller.told_again is not None
                    assert controller.told_again.as_of in (output.as_of, NOW + 60)
        runs.append((said, controller.states()))
        controller.store.close()
    assert runs[0] == runs[1]
    first, *_ = said = runs[0][0]
    assert first.as_of < NOW + 60
    assert [advice.model for advice in first.recommendations] == ["crowded"]
    assert str(first.recommendations[0].reason) == "cold_start"
    step = next(output for output in said if not output.readings)
    after = {advice.model: advice.desired for advice in step.recommendations}
    assert after["crowded"] >= first.recommendations[0].desired


@pytest.mark.slow
def test_a_replay_of_the_store_says_the_same(uninterrupted: Any, settings: Settings) -> None:
    wanted, states, path = uninterrupted
    replay = Advisor(settings)
    with Store.open(path, settings.store, settings.windows) as store:
        said = [
            replay.step(inputs) if isinstance(inputs, StepInput) else replay.revise(inputs)
            for inputs in store.inputs_since(-1)
        ]
    assert said == wanted
    assert states_of(replay) == states
