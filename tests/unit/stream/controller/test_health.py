"""What the controller says about itself: models without settings by name, and pools that a bridge told of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pipeline.clock import WallClock
from pipeline.config.settings import Settings
from pipeline.engine.types import StepOutput
from pipeline.store.store import Store
from pipeline.stream.controller import health as health_module
from pipeline.stream.controller.health import HealthBoard
from pipeline.windows.types import PoolKey
from tests.unit.store.test_bridged import T0, Log, told
from tests.unit.windows.test_unknown_models import window

POOL = {"model": "llama", "pool": "chat", "profile": "llama-3.1-8b", "accelerator": "L40S"}


def test_unknown_models_are_logged_once_with_the_alias_that_would_fold_them(caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(Path(":memory:")) as store:
        board = HealthBoard(Settings(pools=[POOL]), WallClock(), store)
        names = [
            ("llama", "chat", 30),
            ("sql-lora", "chat", 60),
            ("Llama", "gateway", 10),
            ("tiny", "x", 1),
            ("z", "y", 9),
        ]
        windows = tuple(window(*name) for name in names)
        with caplog.at_level(logging.WARNING):
            for as_of in (60, 120):
                board.stepped(StepOutput(as_of, windows=windows))
        text = caplog.text
        assert text.count("'sql-lora' of pool 'chat' has no settings and 55 % of the requests") == 1
        assert "it looks like llama/chat: an alias there would fold it in ('sql-lora')" in text
        assert "('Llama|gateway')" in text
        assert "no configured pool looks like it" in text
        assert "tiny" not in text
        health = board.read(None, True, {}, 0)
        assert health.unknown_models is not None
        assert health.unknown_models.requests_ratio == pytest.approx(80 / 110)
        assert health.unknown_models.models[0].similar == PoolKey("llama", "chat")
        assert health.unknown_model_events == 160


def test_a_start_is_a_start_for_a_minute_and_only_before_the_first_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1_000.0
    monkeypatch.setattr(health_module.time, "monotonic", lambda: seconds)
    with Store.open(Path(":memory:")) as store:
        never, once = (HealthBoard(Settings(), WallClock(), store) for _ in range(2))
        result = store.apply([(0, 0, Log(store).events(T0 + 1, 2))])
        for board in (never, once):
            health = board.read(None, False, {}, 0)
            assert (health.ready, health.starting, health.detail) == (False, True, "no partitions are assigned")
        once.applied(result, 0.01)
        health = once.read(None, True, {("deltas", 0): 0}, 0)
        assert (health.ready, health.starting) == (True, False)
        health = once.read(None, True, {}, 0)
        assert (health.ready, health.starting) == (False, False), "it was ready before: this is a fault"
        seconds += 59.0
        assert never.read(None, False, {}, 0).starting
        seconds += 1.0
        assert not never.read(None, False, {}, 0).starting, "a start that takes longer is a fault"


def test_what_a_bridge_told_is_no_event_and_pools_with_events_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with Store.open(Path(":memory:")) as store:
        board, log = HealthBoard(Settings(), WallClock(), store), Log(store)
        log.add(told(T0 + 10, 7, 1), log.events(T0 + 1, 2), told(T0 + 20, 8, 2))
        with caplog.at_level(logging.WARNING):
            health = board.read(None, True, {}, 0)
            board.read(None, True, {}, 0)
        assert (health.events, health.records) == (2, 2)
        assert caplog.text.count("pool llama|chat has request events") == 1
