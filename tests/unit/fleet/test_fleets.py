"""Fleets: built-in ones and the example keep the promises of the protocol; advice is passed on only where it may be."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from pipeline import extensions
from pipeline.clock import ManualClock
from pipeline.config.settings import Settings, to_environment
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.scenario import scenario as build_scenario
from pipeline.demo.simulated_fleet import SimulatedFleet
from pipeline.engine.types import StepOutput
from pipeline.errors import CodecError, ConfigError
from pipeline.fleet.base import FleetContext
from pipeline.fleet.kafka_reports import ReplicaBook, ReplicaReader, ReplicaStatus
from pipeline.fleet.registry import configured_fleet, fleet_sources
from pipeline.sinks.fleet import FleetSink
from pipeline.testing import RecordedReports, check_fleet, check_sink
from pipeline.windows.types import PoolKey
from sizing.types import Confidence, Constraint, Reason, Recommendation, RecommendationState
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[3]
START = 1_795_981_560.0
KEY = PoolKey("m", "p")


def advice(generation: int = 1, desired: int = 4, **fields: Any) -> Recommendation:
    made = Recommendation(
        recommendation_id=f"m|p|{generation}",
        model="m",
        pool="p",
        generation=generation,
        issued_at=START,
        expires_at=START + 300.0,
        horizon_seconds=300.0,
        accelerator="H100-SXM",
        accelerators_per_replica=1,
        desired=desired,
        lower=2,
        upper=9,
        min_replicas=1,
        max_replicas=16,
        current=3,
        direction="up",
        reason=Reason.FORECAST_UP,
        message="needs 4 replicas",
        constraint=Constraint.DECODE_LATENCY,
        clamped_by=(),
        state=RecommendationState.FRESH,
        confidence=Confidence.INTERPOLATED,
        confidence_ratio=0.5,
        evidence={},
        config_hash="c0ffee123456",
    )
    return replace(made, **fields)


def step(*recommendations: Recommendation) -> StepOutput:
    return StepOutput(int(START), recommendations=recommendations)


class RecordedFleet:
    """A fleet that keeps what it was asked for; the first calls end as ``answers`` say."""

    can_scale = True
    rejected = 0

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[PoolKey, int]] = []

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def scale(self, key: PoolKey, replicas: int) -> None:
        self.asked.append((key, replicas))
        if self.answers:
            raise self.answers.pop(0)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), scaled(60)))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.fixture
def file_fleet(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the example, as if its package was installed."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "fleets" / "tokentide_file_fleet")
    module = importlib.import_module("tokentide_file_fleet")
    point = EntryPoint("file", "tokentide_file_fleet:file_fleet", "tokentide.fleets")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == "tokentide.fleets" else [])
    return module


def write(path: Path, *pools: Any) -> None:
    path.write_text(json.dumps({"pools": pools}), encoding="utf-8")


def fleet_settings(**fleet: Any) -> Settings:
    return Settings(fleet=fleet)


def test_the_default_reads_reports_from_kafka_and_scales_nothing() -> None:
    settings = Settings()
    assert (settings.fleet.source, settings.fleet.actuate) == ("kafka", False)
    fleet = configured_fleet(settings, ManualClock(), ReplicaBook())
    assert isinstance(fleet, ReplicaReader)
    with pytest.raises(NotImplementedError):
        asyncio.run(fleet.scale(KEY, 3))
    asyncio.run(fleet.stop())


@pytest.mark.parametrize(
    ("fleet", "text"),
    [
        ({"source": "kafak"}, "unknown fleet source 'kafak'; did you mean 'kafka'?"),
        ({"actuate": True}, "the fleet source 'kafka' only reports and cannot scale"),
        ({"options": {"topic": "x"}}, "fleet.options: unknown topic"),
    ],
)
def test_wrong_settings_name_the_key(fleet: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match="fleet") as refused:
        configured_fleet(fleet_settings(**fleet), ManualClock(), ReplicaBook())
    assert text in str(refused.value)


def test_secrets_of_a_fleet_are_masked_for_people_and_kept_for_child_processes() -> None:
    settings = fleet_settings(source="file", options={"token": "hunter2", "path": "/f"})
    assert "hunter2" not in settings.model_dump_json()
    assert '"/f"' in settings.model_dump_json()
    assert "hunter2" in to_environment(settings)["TOKENTIDE_FLEET"]


def test_the_simulated_fleet_keeps_the_promises_of_a_fleet() -> None:
    scenario = build_scenario("demo", START)
    target = scenario.planned_replicas(0, START) + 1
    clock = ManualClock(START)
    check_fleet(lambda found: SimulatedFleet(found, FleetActuator(scenario)), scenario.pools[0].key, clock, target)


def test_the_example_reads_a_file(file_fleet: Any, tmp_path: Path) -> None:
    path = tmp_path / "replicas.json"
    write(path, {"model": "m", "pool": "p", "current": 4, "ready": 3})
    settings = fleet_settings(source="file", options={"path": str(path), "every_seconds": 0.01})
    assert fleet_sources() == ["file", "kafka", "kubernetes"]

    def make(context: FleetContext) -> Any:
        return configured_fleet(settings, context.clock, context.book)

    check_fleet(make, KEY, ManualClock(START))
    with pytest.raises(ConfigError, match="'file' only reports"):
        configured_fleet(
            fleet_settings(**settings.fleet.model_dump() | {"actuate": True}), ManualClock(), ReplicaBook()
        )


def test_the_example_writes_what_is_wanted(file_fleet: Any, tmp_path: Path) -> None:
    path, wanted = tmp_path / "replicas.json", tmp_path / "wanted.json"
    write(path, {"model": "m", "pool": "p", "current": 4})

    class Obeyed(file_fleet.FileFleet):  # type: ignore[misc, name-defined]
        async def scale(self, key: PoolKey, replicas: int) -> None:
            await super().scale(key, replicas)
            write(path, {"model": "m", "pool": "p", "current": json.loads(wanted.read_text())["m/p"]})

    options = {"path": str(path), "wanted_path": str(wanted), "every_seconds": 0.01}
    check_fleet(Obeyed, KEY, ManualClock(START), 6, fleet_settings(source="file", actuate=True, options=options))


def test_the_example_survives_files_that_are_broken(file_fleet: Any, tmp_path: Path) -> None:
    path, book, clock = tmp_path / "replicas.json", RecordedReports(), ManualClock(START)
    settings = fleet_settings(source="file", options={"path": str(path), "every_seconds": 0.001})
    fleet = configured_fleet(settings, clock, book)

    async def work() -> None:
        await fleet.start()  # there is no file yet
        for text in ("{", "[]", '{"pools": 3}', "\xff", ""):
            path.write_text(text, encoding="latin-1")
            await asyncio.sleep(0.005)
        write(path, None, 7, {"model": "m"}, {"model": "", "current": 1}, {"model": "m", "pool": "p", "current": -1})
        await until(lambda: fleet.rejected >= 5)
        assert not book.last
        write(path, {"model": "m", "pool": "p", "current": 2})
        await until(lambda: KEY in book.last and book.last[KEY].current == 2)
        await fleet.stop()

    run(work)


@pytest.mark.parametrize(
    "change",
    [{"current": -1}, {"ready": 10**9}, {"at": float("nan")}, {"at": -1.0}, {"model": ""}, {"pool": "x" * 300}],
)
def test_impossible_reports_are_refused(change: dict[str, Any]) -> None:
    book = RecordedReports()
    context = FleetContext(Settings(), ManualClock(START), book)
    sound = {"model": "m", "pool": "p", "at": START, "current": 2}
    context.report(ReplicaStatus(**sound))
    with pytest.raises(CodecError):
        context.report(ReplicaStatus(**sound | change))
    assert book.last[KEY] == ReplicaStatus(**sound)


def test_advice_goes_to_the_fleet_as_to_any_sink() -> None:
    check_sink(lambda: FleetSink(RecordedFleet(), ManualClock(START)), [step(advice(1)), step(advice(2, 5))])


def test_each_generation_is_passed_on_once_and_again_after_a_refusal() -> None:
    fleet, clock = RecordedFleet(OSError("away")), ManualClock(START)
    sink = FleetSink(fleet, clock)

    async def work() -> None:
        await sink.start()
        await sink.publish(step(advice(1)))
        await until(lambda: sink.dropped == 1)
        for _ in range(3):
            await sink.publish(step(advice(1)))
            await until(lambda: len(fleet.asked) == 2)
        await sink.publish(step(advice(2, 5), advice(7, 9, pool="q")))
        await until(lambda: len(fleet.asked) == 4)
        await sink.stop()

    run(work)
    assert fleet.asked == [(KEY, 4), (KEY, 4), (KEY, 5), (PoolKey("m", "q"), 9)]
    assert sink.dropped == 1


@pytest.mark.parametrize(
    ("fields", "followed"),
    [
        ({"direction": "down", "desired": 1}, True),
        ({"direction": "down", "desired": 1, "state": RecommendationState.DEGRADED}, False),
        ({"direction": "hold", "desired": 3, "state": RecommendationState.HOLD}, False),
        ({"direction": "up", "state": RecommendationState.DEGRADED}, True),
        ({"expires_at": START}, False),
    ],
    ids=str,
)
def test_only_what_may_be_followed_is_passed_on(fields: dict[str, Any], followed: bool) -> None:
    fleet = RecordedFleet()
    sink = FleetSink(fleet, ManualClock(START))

    async def work() -> None:
        await sink.start()
        await sink.publish(step(advice(1, **{"desired": 4} | fields), advice(9, 9, pool="last")))
        await until(lambda: any(key.pool == "last" for key, _ in fleet.asked))
        await sink.stop()

    run(work)
    assert (KEY in dict(fleet.asked)) == followed


def test_a_fleet_that_never_answers_holds_nothing_back_and_newer_advice_wins() -> None:
    asked: list[int] = []

    class Silent(RecordedFleet):
        async def scale(self, key: PoolKey, replicas: int) -> None:
            asked.append(replicas)
            if len(asked) == 1:
                await asyncio.Event().wait()

    sink = FleetSink(Silent(), ManualClock(START), scale_seconds=0.01)

    async def work() -> None:
        await sink.start()
        await sink.publish(step(advice(1, 4)))
        await until(lambda: asked == [4])
        for generation in range(2, 9):
            await sink.publish(step(advice(generation, generation)))
        await until(lambda: len(asked) == 2)
        await sink.stop()

    run(work)
    assert asked == [4, 8]
    assert sink.dropped == 1


def test_advice_closes_the_loop_with_the_simulated_fleet() -> None:
    """Recommendations start replicas; what is then reported is what the next window shows."""
    scenario = build_scenario("demo", START)
    spec = scenario.pools[0]
    clock, book = ManualClock(START), RecordedReports()
    fleet = SimulatedFleet(FleetContext(Settings(), clock, book), FleetActuator(scenario, lead_seconds=180.0))
    sink = FleetSink(fleet, clock)
    wanted = min(spec.settings.max_replicas, scenario.planned_replicas(0, START) + 2)

    async def work() -> None:
        await fleet.start()
        await sink.start()
        await until(lambda: spec.key in book.last)
        await sink.publish(step(advice(1, wanted, model=spec.key.model, pool=spec.key.pool)))
        await until(lambda: book.last[spec.key].current == wanted)
        assert book.last[spec.key].ready == scenario.planned_replicas(0, START)
        clock.advance(200.0)
        await until(lambda: book.last[spec.key].ready == wanted)
        await sink.stop()
        await fleet.stop()

    run(work)
