from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.settings import PoolSettings, Settings, load
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepOutput
from pipeline.errors import StoreError
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaStatus
from pipeline.store.store import Store
from pipeline.stream.controller import snapshot_turns
from pipeline.stream.controller import window_closer as closing
from pipeline.stream.controller.window_closer import FORGET_SECONDS, WindowCloser
from pipeline.testing import PipelineTestDriver, request_event
from pipeline.windows.fleet import CountedRequests, FleetReport
from pipeline.windows.types import PoolKey

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


def test_the_store_is_not_asked_before_a_window_may_be_due(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 3)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    assert closer.close_next(NOW + 90) is not None
    asked: list[int] = []
    next_counted = store.next_counted

    def noted(start: int) -> int | None:
        asked.append(start)
        return next_counted(start)

    monkeypatch.setattr(store, "next_counted", noted)
    assert closer.close_next(NOW + 149.9) is None
    assert not asked
    assert closer.close_next(NOW + 150) is not None
    assert asked


def test_windows_carry_what_the_fleet_and_its_servers_told(settings: Settings, store: Store) -> None:
    driver = PipelineTestDriver(store, now=NOW + 600)
    events = [request_event(f"e{i}", NOW + i, model="m", server_id=f"vllm-{i % 7}") for i in range(180)]
    driver.produce(0, [json.dumps(event).encode() for event in events])
    driver.finish()
    book = ReplicaBook()
    for at, current, ready in ((-600, 1, 1), (20, 4, 1), (80, 4, 4), (85, 4, 4)):
        book.add(ReplicaStatus(model="m", at=NOW + at, current=current, ready=ready, queued_requests=at + 600))
    settings = settings.model_copy(
        update={"advise": settings.advise.model_copy(update={"replica_report_max_age_seconds": 60.0})}
    )
    closer = WindowCloser(settings, store, Advisor(settings), book)
    outputs = [closer.close_next(NOW + reached) for reached in (95, 155, 222)]
    first, second, third = (output.windows[0] for output in outputs if output is not None)
    assert first.fleet == FleetReport(NOW + 85, 685, None, ((NOW + 80, 4, 4), (NOW + 85, 4, 4)))
    assert (first.current_replicas, first.ready_replicas, first.servers, first.closed_after_seconds) == (4, 4, 7, 30.0)
    assert second.fleet == FleetReport(NOW + 85, 685, None, ((NOW + 85, 4, 4),))
    assert (second.current_replicas, second.closed_after_seconds) == (None, 30.0), "the report is 65 s old"
    assert third.fleet == second.fleet
    assert [w for step in store.closed_since(0) for w in step.windows] == [first, second, third]


@pytest.mark.slow
def test_windows_carry_the_requests_that_the_fleet_counted(settings: Settings, store: Store) -> None:
    fill(store, 2)
    book = ReplicaBook()
    for at in range(0, 120, 15):
        book.add(ReplicaStatus(model="m", at=NOW + at, current=1, running_requests=0, requests_total=2 * at))
    closer = WindowCloser(settings, store, Advisor(settings), book)
    output = closer.close_next(NOW + 95)
    assert output is not None
    window = {window.key: window for window in output.windows}[PoolKey("m", "default")]
    assert window.fleet is not None
    assert window.fleet.counted == CountedRequests(
        around=120,
        inside=120,
        inside_seconds=60.0,
        idle=True,
        newest=30,
        newest_seconds=15.0,
        after=60,
        after_seconds=30.0,
    )
    assert window in next(iter(store.closed_since(0))).windows


@pytest.mark.slow
def test_a_silent_pool_has_a_window_of_zeros(settings: Settings, store: Store) -> None:
    fill(store, 3)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    outputs = []
    while (output := closer.close_next(NOW + 600)) is not None:
        outputs.append(output)
    assert [output.as_of for output in outputs] == [NOW + 60 * i for i in range(1, 10)]
    last = {window.key: window for window in outputs[-1].windows}
    assert last[PoolKey("m", "default")].requests == 0


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_restart_says_the_last_step_again_bit_for_bit(settings: Settings, store: Store) -> None:
    fill(store, 6)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    outputs = [closer.close_next(NOW + 10_000) for _ in range(5)]
    assert as_stored(store.last_output()) == as_stored(outputs[-1])
    again = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    again.restore()
    assert again.close_next(NOW + 10_000) == closer_step(settings, store, closer)


def as_stored(output: StepOutput | None) -> tuple[object, ...]:
    """What the store keeps of a step."""
    assert output is not None
    return output.as_of, output.windows, sorted(output.forecasts, key=repr), output.recommendations, output.alerts


def closer_step(settings: Settings, store: Store, closer: WindowCloser) -> object:
    """What the closer that never stopped says for the step that another one has just recorded."""
    newest = list(store.closed_since(store.last_closed() - settings.windows.grain_seconds))  # type: ignore[operator]
    return closer._advisor.step(newest[-1])


def test_nothing_to_restore(settings: Settings, store: Store) -> None:
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    closer.restore()
    assert closer.close_next(NOW) is None


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("table", ["snapshots", "pool_snapshots"])
@pytest.mark.parametrize("garbage", [b"", b"garbage", b"\x00" * 4_096])
def test_a_snapshot_that_cannot_be_read_is_learned_again_bit_for_bit(
    settings: Settings, store: Store, table: str, garbage: bytes
) -> None:
    fill(store, 6)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    for _ in range(5):
        closer.close_next(NOW + 10_000)
    store.cursor().execute(f"UPDATE {table} SET body = ?", [garbage])
    again = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    again.restore()
    assert again.close_next(NOW + 10_000) == closer_step(settings, store, closer)


def fill_pools(store: Store, pools: int, minutes: int) -> None:
    driver = PipelineTestDriver(store, now=NOW + 60 * minutes)
    driver.produce(
        0,
        [
            json.dumps(request_event(f"e{minute}-{i}", NOW + 60 * minute + 1, pool=f"p{i}")).encode()
            for minute in range(minutes)
            for i in range(pools)
            if (i + minute) % 4
        ],
    )
    driver.finish()


@pytest.mark.slow
def test_parts_and_restarts_within_them_change_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Seven pools in parts of two, stopped after every part in turn, against one that is never stopped, in one part."""
    steps = 6
    expected = []
    with Store.open(tmp_path / "whole.duckdb", settings.store, settings.windows) as store:
        fill_pools(store, 7, steps)
        whole = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
        expected = [whole.close_next(NOW + 10_000) for _ in range(steps)]
    monkeypatch.setattr(closing, "POOLS_PER_PART", 2)
    monkeypatch.setattr(snapshot_turns, "_POOLS_PER_SNAPSHOT", 1)
    found = []
    path = tmp_path / "parts.duckdb"
    with Store.open(path, settings.store, settings.windows) as store:
        fill_pools(store, 7, steps)
    for number in range(steps):
        for stopped_after in (number % 4, None):
            with Store.open(path, settings.store, settings.windows) as store:
                closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
                closer.restore()
                if stopped_after is None:
                    found.append(closer.close_next(NOW + 10_000))
                    continue
                step = closer.begin(NOW + 10_000)
                assert step is not None
                for _ in range(stopped_after):
                    assert not closer.is_last(step)
                    part = closer.read(step, NOW + 10_000)
                    closer.close(step, part)
                    assert closer.advise(step, part).windows == part.windows
    assert found == expected


def test_a_pool_that_comes_while_a_step_is_closed_is_in_it(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "POOLS_PER_PART", 2)
    driver = PipelineTestDriver(store, now=NOW + 60)
    driver.produce(0, [json.dumps(request_event(p, NOW + 1, pool=p)).encode() for p in ("b", "c", "d")])
    driver.finish()
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    step = closer.begin(NOW + 90)
    assert step is not None
    part = closer.read(step, NOW + 90)
    closer.close(step, part)
    closer.advise(step, part)
    driver.produce(0, [json.dumps(request_event(f"{p}2", NOW + 2, pool=p)).encode() for p in ("a", "b", "d")])
    driver.finish()
    closer.advise(step, closer.read(step, NOW + 90))
    output = closer.record(step)
    assert {w.pool: w.requests for w in output.windows} == {"b": 1, "c": 1, "d": 2, "a": 1}
    assert sum(row["late"] for row in store.ledger()) == 1, "b had closed"


@pytest.mark.slow
def test_a_telemetry_gap_is_stored_with_the_window(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "POOLS_PER_PART", 1)
    driver = PipelineTestDriver(store, now=NOW + 60)
    busy = [request_event(f"{p}{i}", NOW + i, pool=p) for p in ("a", "b") for i in range(50)]
    driver.produce(0, [json.dumps(event).encode() for event in busy])
    driver.finish()
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    closer.close_next(NOW + 90)
    output = closer.close_next(NOW + 150)
    assert output is not None
    assert [w.gap for w in output.windows] == [True, True]
    *_, last = store.closed_since(-1)
    assert last.windows == output.windows


@pytest.mark.slow
def test_snapshots_are_spread_over_steps_and_none_is_older_than_two_rounds(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_turns, "_POOLS_PER_SNAPSHOT", 2)
    settings = settings.model_copy(update={"store": settings.store.model_copy(update={"snapshot_every_steps": 5})})
    fill_pools(store, 5, 14)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    kept = []
    for _ in range(14):
        closer.close_next(NOW + 10_000)
        state = store.snapshots()
        assert state is not None
        kept.append(sum(at == store.last_closed() for at, _ in state.pools.values()))
        assert state.as_of == min(at for at, _ in state.pools.values())
        assert state.as_of >= (store.last_closed() or 0) - 10 * 60
    assert max(kept[1:]) <= 2
    assert sum(kept[1:]) >= 10


def test_after_a_step_that_failed_nothing_is_closed_by_the_same_process(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pools would learn the same windows twice."""
    monkeypatch.setattr(closing, "POOLS_PER_PART", 1)
    fill_pools(store, 2, 2)
    closer = WindowCloser(settings, store, Advisor(settings), ReplicaBook())
    step = closer.begin(NOW + 10_000)
    assert step is not None
    part = closer.read(step, NOW + 10_000)
    closer.close(step, part)
    closer.advise(step, part)
    with pytest.raises(StoreError, match="not recorded"):
        closer.begin(NOW + 10_000)
    assert closer.state() is None
