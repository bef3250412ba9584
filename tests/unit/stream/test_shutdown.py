"""An orderly end leaves a snapshot behind which the next start has nothing to step again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.alerts.types import Alert, AlertKind
from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.fleet.kafka_reports import ReplicaBook
from pipeline.publish.exporter import Exporter
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.controller.app import controller_app
from pipeline.stream.controller.window_closer import WindowCloser
from pipeline.testing import PipelineTestDriver, request_event

NOW = 1_700_000_040.0  # the start of a minute
MINUTES = 12


@pytest.fixture
def settings() -> Settings:
    pool = PoolSettings(model="m", profile="llama-3.1-8b", accelerator="H100-SXM")
    return load(None, store={"snapshot_every_steps": 5}).model_copy(update={"pools": (pool,)})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        driver = PipelineTestDriver(store, now=NOW + 60 * MINUTES)
        events = [request_event(f"e{i}", NOW + i, model="m") for i in range(60 * MINUTES)]
        driver.produce(0, [json.dumps(event).encode() for event in events])
        driver.finish()
        yield store


def closer(settings: Settings, store: Store) -> WindowCloser:
    made = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    made.restore()
    return made


@pytest.mark.slow
def test_the_first_scrape_after_a_restart_shows_the_advice_that_is_still_good(settings: Settings, store: Store) -> None:
    before = closer(settings, store)
    outputs = [before.close_next(NOW + 10_000) for _ in range(4)]
    assert outputs[-1] is not None
    (advice,) = outputs[-1].recommendations
    for later, shown in ((60.0, True), (advice.expires_at - advice.issued_at + 1, False)):
        clock = ManualClock(advice.issued_at + later)
        live = LiveState(clock, settings.pools, settings.config_hash())
        controller_app(settings, clock, store, Advisor(settings), live, 1)  # not started
        text = Exporter(live).render().decode()
        assert (f'tokentide_recommended_replicas{{model="m",pool="default"}} {advice.desired}' in text) == shown
        assert live.counters().steps == 0


def end_orderly(closer: WindowCloser) -> None:
    state = closer.state()
    assert state is not None
    closer.keep(state)


def steps_done(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    done: list[int] = []
    step = Advisor.step
    monkeypatch.setattr(Advisor, "step", lambda self, inputs: done.append(inputs.as_of) or step(self, inputs))
    return done


@pytest.mark.slow
def test_after_an_orderly_end_nothing_is_stepped_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = closer(settings, store)
    outputs = [first.close_next(NOW + 10_000) for _ in range(8)]
    end_orderly(first)
    done = steps_done(monkeypatch)
    second = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    second.restore()
    said = store.last_output()
    assert done == []
    last = outputs[-1]
    assert said is not None
    assert last is not None
    assert last.forecasts
    assert last.recommendations
    assert (said.as_of, said.windows) == (last.as_of, last.windows)
    assert said.recommendations == last.recommendations
    assert sorted(said.forecasts, key=repr) == sorted(last.forecasts, key=repr)


@pytest.mark.slow
def test_it_goes_on_as_if_it_had_never_ended(settings: Settings, store: Store) -> None:
    first = closer(settings, store)
    for _ in range(8):
        first.close_next(NOW + 10_000)
    end_orderly(first)
    second = closer(settings, store)
    ninth = second.close_next(NOW + 10_000)
    (inputs,) = store.closed_since(int(NOW) + 8 * 60)
    assert ninth == first._advisor.step(inputs)


@pytest.mark.slow
def test_without_an_orderly_end_the_steps_since_the_snapshot_are_done_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = closer(settings, store)
    for _ in range(8):
        first.close_next(NOW + 10_000)
    done = steps_done(monkeypatch)
    assert closer(settings, store)._advisor.as_of == int(NOW) + 8 * 60
    assert len(done) >= 1


def test_a_state_that_is_not_the_store_s_is_not_kept(settings: Settings, store: Store) -> None:
    assert WindowCloser(settings, store, Advisor(settings), ReplicaBook()).state() is None
    ahead = closer(settings, store)
    ahead.close_next(NOW + 10_000)
    ahead._advisor.step(StepInput(int(NOW) + 120, ()))  # a step that could not be recorded
    assert ahead.state() is None


def test_alerts_that_last_are_told_again_and_ended_ones_are_not(store: Store) -> None:
    lasting = Alert("a", AlertKind.SPIKE_OBSERVED, "m", "default", 60.0, 50.0, None, "warning", 3.0, None, "up")
    store.record_step(StepOutput(as_of=60, alerts=(lasting, replace(lasting, alert_id="b"))))
    store.record_step(StepOutput(as_of=120, alerts=(replace(lasting, alert_id="b", ended_at=100.0),)))
    store.record_step(StepOutput(as_of=180))
    output = store.last_output()
    assert output is not None
    assert output.alerts == (lasting,)
