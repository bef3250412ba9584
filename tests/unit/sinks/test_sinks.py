"""Sinks: every built-in and the example keep the promises of the protocol; a broken one never stops advice."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import duckdb
import pytest
from aiohttp import web

from pipeline import extensions
from pipeline.alerts.types import Alert, AlertKind
from pipeline.clock import ManualClock
from pipeline.config.settings import Settings, load, to_environment
from pipeline.engine.types import StepOutput
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.sinks.base import SinkContext
from pipeline.sinks.fanout import SinkFanout
from pipeline.sinks.parquet import parquet_sink
from pipeline.sinks.registry import configured_sinks, sink_kinds
from pipeline.sinks.webhook import signature, webhook_sink
from pipeline.testing import check_sink
from sizing.types import Confidence, Constraint, Reason, Recommendation, RecommendationState
from tests.waiting import scaled

ROOT = Path(__file__).resolve().parents[3]
START = 1_795_981_560


def recommendation(as_of: int, generation: int) -> Recommendation:
    return Recommendation(
        recommendation_id=f"m|p|{generation}",
        model="m",
        pool="p",
        generation=generation,
        issued_at=float(as_of),
        expires_at=as_of + 300.0,
        horizon_seconds=300.0,
        accelerator="H100-SXM",
        accelerators_per_replica=1,
        desired=2 + generation,
        lower=2,
        upper=9,
        min_replicas=1,
        max_replicas=16,
        current=None,
        direction="up",
        reason=Reason.FORECAST_UP,
        message="5-min-ahead p90 of 12.5 req/s needs 3 replicas",
        constraint=Constraint.DECODE_LATENCY,
        clamped_by=(),
        state=RecommendationState.FRESH,
        confidence=Confidence.INTERPOLATED,
        confidence_ratio=0.5,
        evidence={"demand_quantile": 0.9},
        config_hash="c0ffee123456",
    )


def alert(as_of: int) -> Alert:
    at = float(as_of)
    return Alert("m|p|1", AlertKind.SPIKE_OBSERVED, "m", "p", at, at, None, "warning", 2.5, None, "demand is 2.5 times")


def steps(count: int = 3, *, apart: int = 60) -> list[StepOutput]:
    found = []
    for number in range(count):
        as_of = START + number * apart
        alerts = (alert(as_of),) if number == 1 else ()
        found.append(StepOutput(as_of, recommendations=(recommendation(as_of, 1 + number // 2),), alerts=alerts))
    return found


def context(**options: Any) -> SinkContext:
    return SinkContext(Settings(), ManualClock(START), options)


class Receiver:
    """An HTTP server that keeps what is posted and answers with the next of ``answers``, then with 204."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.posts: list[tuple[dict[str, str], bytes]] = []

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/hook"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.posts.append((dict(request.headers), await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 204)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def run(work: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(work, scaled(60)))  # type: ignore[arg-type]


def test_parquet_keeps_the_promises_of_a_sink_and_files_can_be_read(tmp_path: Path) -> None:
    check_sink(lambda: parquet_sink(context(folder=str(tmp_path))), steps())
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/recommendations/*/*.parquet')").df()
    assert rows["desired"].tolist() == [3, 3, 4, 4]  # the last step twice
    assert json.loads(rows["evidence"][0]) == {"demand_quantile": 0.9}
    assert rows["current"].isna().all()  # unknown, not 0
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{tmp_path}/alerts/*/*.parquet')").fetchall() == [(1,)]
    assert not list(tmp_path.rglob("*.partial"))


def test_parquet_begins_a_new_file_every_hour(tmp_path: Path) -> None:
    check_sink(lambda: parquet_sink(context(folder=str(tmp_path))), steps(4, apart=1800))
    files = sorted(path.name for path in tmp_path.glob("recommendations/*/*.parquet"))
    assert len(files) == 3


def test_a_step_that_fills_several_files_loses_none_of_them(tmp_path: Path) -> None:
    async def work() -> None:
        sink = parquet_sink(context(folder=str(tmp_path), most_rows=1))
        await sink.start()
        for generation in (1, 2, 3):
            part = StepOutput(START, recommendations=(recommendation(START, generation),))
            await sink.publish(part, finished=generation == 3)
        await sink.stop()

    run(work())
    rows = duckdb.sql(f"SELECT generation FROM read_parquet('{tmp_path}/recommendations/*/*.parquet') ORDER BY 1")
    assert rows.fetchall() == [(1,), (2,), (3,)]


def test_what_parquet_cannot_write_is_counted_and_given_up(tmp_path: Path) -> None:
    async def work() -> None:
        sink = parquet_sink(context(folder=str(tmp_path / "results")))
        await sink.start()
        (tmp_path / "results" / "recommendations").write_text("a file where a folder should be")
        for step in steps():
            await sink.publish(step)
        await sink.stop()
        assert sink.dropped == 3

    run(work())


def test_a_webhook_is_signed_and_says_each_generation_once() -> None:
    receiver = Receiver()

    async def work() -> None:
        async with receiver as url:
            sink = webhook_sink(context(url=url, secret="key"))
            await sink.start()
            for step in steps():
                await sink.publish(step)
            await sink.publish(steps()[-1])
            await until(lambda: sink.sent == 3)
            await sink.stop()

    run(work())
    bodies = [json.loads(body) for _, body in receiver.posts]
    assert [[r["generation"] for r in body["recommendations"]] for body in bodies] == [[1], [], [2]]
    assert [len(body["alerts"]) for body in bodies] == [0, 1, 0]
    for headers, body in receiver.posts:
        assert headers["X-Tokentide-Signature"] == signature(b"key", headers["X-Tokentide-Timestamp"], body)


def test_a_busy_receiver_is_asked_again_with_the_same_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.webhook._FIRST_RETRY_SECONDS", 0.01)
    receiver = Receiver(503, 429)

    async def work() -> None:
        async with receiver as url:
            sink = webhook_sink(context(url=url))
            await sink.start()
            await sink.publish(steps()[0])
            await until(lambda: sink.sent == 1)
            await sink.stop()
            assert sink.dropped == 0

    run(work())
    assert len({headers["X-Tokentide-Delivery"] for headers, _ in receiver.posts}) == 1
    assert len(receiver.posts) == 3


def test_a_request_that_is_refused_for_good_is_given_up_and_the_next_is_sent() -> None:
    receiver = Receiver(400)

    async def work() -> None:
        async with receiver as url:
            sink = webhook_sink(context(url=url, recommendations="step"))
            await sink.start()
            for step in steps(2):
                await sink.publish(step)
            await until(lambda: sink.sent == 1)
            await sink.stop()
            assert sink.dropped == 1

    run(work())


@pytest.mark.slow
def test_a_webhook_whose_receiver_is_away_holds_nothing_back() -> None:
    async def work() -> None:
        sink = webhook_sink(context(url="http://127.0.0.1:1/", recommendations="step", most_waiting=2))
        await sink.start()
        for step in steps(5):
            await sink.publish(step)
        assert sink.dropped == 3
        await asyncio.wait_for(sink.stop(), scaled(30))

    run(work())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "sinks.webhook.url: Field required"),
        ({"url": "ftp://x/"}, "'ftp://x/' is not an http or https URL"),
        ({"url": "http://x/", "color": "red"}, "sinks.webhook.color"),
        ({"url": "http://x/", "secret": "a", "secret_file": "b"}, "must not both be set"),
        ({"url": "http://x/", "secret_file": "/nowhere"}, "cannot read /nowhere"),
    ],
)
def test_wrong_options_name_the_key(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=r"sinks\.webhook") as refused:
        webhook_sink(context(**options))
    assert text in str(refused.value)


def test_sinks_are_made_from_settings(tmp_path: Path) -> None:
    file = tmp_path / "tokentide.toml"
    file.write_text(
        f'[[sinks]]\nkind = "webhook"\nurl = "http://x/"\n[[sinks]]\nkind = "parquet"\nfolder = "{tmp_path}"\n'
    )
    made = configured_sinks(load(file), ManualClock(0))
    assert [type(sink).__name__ for sink in made] == ["WebhookSink", "ParquetSink"]


def test_an_unknown_kind_names_what_there_is() -> None:
    settings = Settings(sinks=({"kind": "webhok"},))
    with pytest.raises(ConfigError, match=r"unknown sink 'webhok'; did you mean 'webhook'\? Available: .*parquet"):
        configured_sinks(settings, ManualClock(0))


def test_secrets_of_a_sink_are_masked_for_people_and_kept_for_child_processes() -> None:
    settings = Settings(sinks=({"kind": "webhook", "url": "http://x/", "secret": "hunter2", "secret_file": "/f"},))
    assert "hunter2" not in settings.model_dump_json()
    assert '"/f"' in settings.model_dump_json()
    assert "hunter2" in to_environment(settings)["TOKENTIDE_SINKS"]


def test_the_example_of_another_package_is_found_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "sinks" / "tokentide_jsonl")
    importlib.import_module("tokentide_jsonl")
    point = EntryPoint("jsonl", "tokentide_jsonl:jsonl_sink", "tokentide.sinks")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == "tokentide.sinks" else [])
    assert sink_kinds() == ["jsonl", "parquet", "webhook"]
    path = tmp_path / "out.jsonl"
    settings = Settings(sinks=({"kind": "jsonl", "path": str(path)},))
    check_sink(lambda: configured_sinks(settings, ManualClock(0))[0], steps())
    assert [json.loads(line)["desired"] for line in path.read_text().splitlines()] == [3, 3, 4, 4]


def test_a_package_that_fails_to_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("broken", "no_such_module_of_ours:sink", "tokentide.sinks")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=r"sink 'broken' \(no_such_module_of_ours:sink\) cannot be imported"):
        configured_sinks(Settings(sinks=({"kind": "broken"},)), ManualClock(0))


class Recorded:
    """A sink that keeps steps, or raises ``error``."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.steps: list[int] = []
        self.stopped = False
        self.dropped = 0

    async def start(self) -> None:
        pass

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:
        if self.error is not None:
            raise self.error
        self.steps.append(output.as_of)

    async def stop(self) -> None:
        self.stopped = True
        if self.error is not None:
            raise self.error


def test_a_sink_that_fails_costs_only_its_own_step() -> None:
    broken, sound = Recorded(RuntimeError("bug")), Recorded()
    fanout = SinkFanout([broken, sound])

    async def work() -> None:
        await fanout.start()
        for step in steps(2):
            await fanout.publish(step)
        await fanout.stop()

    run(work())
    assert sound.steps == [START, START + 60]
    assert fanout.dropped == 2
    assert broken.stopped
    assert sound.stopped


def test_a_required_destination_that_is_away_stops_the_step() -> None:
    fanout = SinkFanout([Recorded(ServerUnavailable("Kafka is away"))])
    with pytest.raises(ServerUnavailable):
        run(fanout.publish(steps()[0]))
