from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.advise.engine import Advisor
from pipeline.settings import PoolSettings, Settings, load
from pipeline.store.store import Store
from pipeline.stream.closing import FORGET_SECONDS, WindowCloser
from pipeline.stream.replicas import ReplicaBook, ReplicaStatus
from pipeline.testing import PipelineTestDriver, request_event
from pipeline.windows.model import PoolKey

NOW = 1_700_000_040.0  # the start of a minute


@pytest.fixture
def settings() -> Settings:
    return load(None, windows={"allowed_lateness_seconds": 30.0}, store={"snapshot_every_steps": 2})


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(Path(":memory:"), settings.store, settings.windows) as store:
        yield store


def fill(store: Store, minutes: int) -> None:
    driver = PipelineTestDriver(store, now=NOW + 60 * minutes)
    events = [
        request_event(
            f"e{i}", NOW + i * 6.0, model="late" if i < 10 * (minutes - 1) and i % 10 else "m", ttft_seconds=0.5
        )
        for i in range(10 * minutes)
    ]
    driver.produce(0, [json.dumps(event).encode() for event in events])
    driver.finish()


def test_windows_close_once_their_lateness_has_passed(settings: Settings, store: Store) -> None:
    fill(store, 3)
    book = ReplicaBook()
    book.add(ReplicaStatus(model="m", at=NOW + 20, current=4, ready=3))
    closer = WindowCloser(settings, store, Advisor(settings), book)
    assert closer.close_next(None) is None
    assert closer.close_next(NOW + 89.9) is None
    output = closer.close_next(NOW + 90)
    assert output is not None
    assert output.as_of == NOW + 60
    windows = {window.key: window for window in output.windows}
    assert windows[PoolKey("m", "default")].requests == 1
    assert windows[PoolKey("m", "default")].current_replicas == 4
    assert windows[PoolKey("late", "default")].requests == 9
    assert windows[PoolKey("late", "default")].ttft_seconds == pytest.approx(0.5, rel=0.01)
    assert windows[PoolKey("late", "default")].current_replicas is None
    assert closer.close_next(NOW + 90) is None
    assert store.last_closed() == NOW + 60


def test_a_silent_pool_has_a_window_of_zeros(settings: Settings, store: Store) -> None:
    fill(store, 3)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    outputs = []
    while (output := closer.close_next(NOW + 600)) is not None:
        outputs.append(output)
    assert [output.as_of for output in outputs] == [NOW + 60 * i for i in range(1, 10)]
    last = {window.key: window for window in outputs[-1].windows}
    assert last[PoolKey("m", "default")].requests == 0


def test_a_pool_that_stays_away_gets_no_windows_until_it_comes_back(settings: Settings, store: Store) -> None:
    known = PoolSettings(model="known", profile="llama-3.1-8b", accelerator="L40S")
    settings = settings.model_copy(update={"pools": (known,)})
    driver = PipelineTestDriver(store, now=NOW)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())

    def named(at: float, *models: str) -> set[str]:
        """The pools of the newest step, after events of these models."""
        driver.now = at + 60
        driver.produce(0, [json.dumps(request_event(f"{model}{at}", at, model=model)).encode() for model in models])
        driver.finish()
        output = None
        while (step := closer.close_next(at + 90)) is not None:
            output = step
        assert output is not None
        return {window.model for window in output.windows}

    assert named(NOW, "known", "weekly", "gone") == {"known", "weekly", "gone"}
    assert named(NOW + 7 * 86_400, "weekly") == {"known", "weekly", "gone"}
    assert named(NOW + FORGET_SECONDS + 3_600, "other") == {"known", "weekly", "other"}
    assert closer.gone == {("gone", "default")}
    store.retain(NOW + FORGET_SECONDS + 3_600, closer.gone)
    assert ("gone", "default") not in store.pools()
    assert ("known", "default") in store.pools()
    assert named(NOW + FORGET_SECONDS + 3_660, "gone") == {"known", "weekly", "other", "gone"}
    assert named(NOW + FORGET_SECONDS + 3_720, "other") == {"known", "weekly", "other", "gone"}


def test_a_restart_says_the_last_step_again_bit_for_bit(settings: Settings, store: Store) -> None:
    fill(store, 6)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    outputs = [closer.close_next(NOW + 10_000) for _ in range(5)]
    again = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    assert again.restore() == outputs[-1]
    assert again.close_next(NOW + 10_000) == closer_step(settings, store, closer)


def closer_step(settings: Settings, store: Store, closer: WindowCloser) -> object:
    """What the closer that never stopped says for the step that another one has just recorded."""
    newest = list(store.closed_since(store.last_closed() - settings.windows.grain_seconds))  # type: ignore[operator]
    return closer._advisor.step(newest[-1])


def test_nothing_to_restore(settings: Settings, store: Store) -> None:
    assert WindowCloser(settings, store, Advisor(settings), ReplicaBook()).restore() is None


def test_a_long_silence_is_skipped_once_it_has_been_believed(settings: Settings, store: Store) -> None:
    later = NOW + 6 * 86_400
    driver = PipelineTestDriver(store, now=later + 60)
    for number, at in enumerate((NOW, later)):
        driver.produce(0, [json.dumps(request_event(f"e{number}", at, model="m")).encode()])
    driver.finish()
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    ends = []
    while (output := closer.close_next(later + 3600)) is not None:
        ends.append(output.as_of)
    believed = int(settings.advise.gap_accept_seconds) // 60
    assert ends[: believed + 1] == [NOW + 60 * (i + 1) for i in range(believed + 1)]
    assert ends[believed + 1] == later + 60
    assert len(ends) == believed + 1 + 59


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x00" * 4_096])
def test_a_snapshot_that_cannot_be_read_is_learned_again_bit_for_bit(
    settings: Settings, store: Store, garbage: bytes
) -> None:
    fill(store, 6)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    outputs = [closer.close_next(NOW + 10_000) for _ in range(5)]
    store.cursor().execute("UPDATE snapshots SET body = ?", [garbage])
    again = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    assert again.restore() == outputs[-1]
    assert again.close_next(NOW + 10_000) == closer_step(settings, store, closer)
