"""A bridge from fake servers over HTTP and a broker to closed windows, killed in between, until events take over."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from pipeline.bridge.bridge import Bridge, run_bridge
from pipeline.cli.main import app
from pipeline.clock import WallClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.errors import ServerUnavailable, TokentideError
from pipeline.publish.api import status_data
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.controller.app import controller_app
from pipeline.testing.oracle import request_event
from tests.kafka_servers import produce, stream_settings
from tests.unit.bridge.fake_metrics import Server
from tests.waiting import eventually

pytestmark = pytest.mark.integration

CHAT, CODE = ("llama", "chat"), ("qwen", "code")


async def serve(servers: dict[str, Server | str]) -> tuple[web.AppRunner, str]:
    async def metrics(request: web.Request) -> web.Response:
        server = servers[request.match_info["name"]]
        return web.Response(text=server if isinstance(server, str) else server.text())

    exporter = web.Application()
    exporter.add_routes([web.get("/{name}/metrics", metrics)])
    runner = web.AppRunner(exporter)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    return runner, f"http://127.0.0.1:{port}"


def settings_of(broker: str, folder: Path, address: str) -> Settings:
    targets = [
        {"url": f"{address}/a/metrics", "model": "llama", "pool": "chat"},
        {"url": f"{address}/b/metrics", "model": "meta/llama", "pool": "chat"},  # an alias
        {"url": f"{address}/c/metrics", "model": "qwen", "pool": "code"},
        {"url": f"{address}/hostile/metrics", "model": "other", "pool": "other"},
    ]
    plain = stream_settings(
        broker,
        folder,
        2,
        windows={"grain_seconds": 10, "allowed_lateness_seconds": 4.0},
        bridge={"scrape_seconds": 1.0, "targets": targets, "state_path": folder / "bridge.state"},
    )
    pool = {"model": "llama", "pool": "chat", "profile": "llama-3.1-8b", "accelerator": "L40S"}
    values = plain.model_dump(exclude={"pools"})
    return Settings(**values, pools=[pool | {"aliases": ["meta/*"]}])


async def started(app: Any) -> Any:
    app.finalize()
    await app.start()
    return app


async def bridge_of(settings: Settings) -> Bridge:
    bridge = Bridge(settings, WallClock())
    await bridge.start()
    return bridge


def test_servers_are_counted_exactly_until_events_take_over(embedded_broker: str, tmp_path: Path) -> None:
    servers = {"a": Server(), "b": Server("old_vllm"), "c": Server("sglang", "qwen"), "hostile": "\x00{}{{" * 1_000}

    async def run() -> None:
        runner, address = await serve(servers)
        settings = settings_of(embedded_broker, tmp_path, address)
        store = Store.open(settings.store.path, settings.store, settings.windows)
        clock = WallClock()
        live = LiveState(clock, settings.pools, settings.config_hash())
        sizes = {settings.kafka.requests_topic: 2}
        control = await started(controller_app(settings, clock, store, Advisor(settings), live, 2, sizes))
        aggregate = await started(aggregator_app(settings, clock))
        bridge = await bridge_of(settings)
        try:
            finished = dict.fromkeys((CHAT, CODE), 0)

            def finish(name: str, requests: int) -> None:
                servers[name].finish(requests)
                finished[CODE if name == "c" else CHAT] += requests

            await bridge.step()  # the baseline
            for name, requests in (("a", 20), ("b", 30), ("c", 5)):
                finish(name, requests)
            await bridge.step()
            await bridge.stop()  # killed after its delta was written

            bridge = await bridge_of(settings)
            finish("a", 11)

            async def die(_: object) -> None:
                raise ServerUnavailable("the process ends here")

            bridge._append = die  # type: ignore[method-assign]  # killed between its file and its delta
            with pytest.raises(ServerUnavailable):
                await bridge.step()
            await bridge.stop()
            servers["b"].restart(time.time())
            finish("b", 13)
            bridge, rival = await bridge_of(settings), None
            await bridge.step()
            await bridge.step()

            rival = Bridge(
                settings.model_copy(
                    update={"bridge": settings.bridge.model_copy(update={"state_path": tmp_path / "rival.state"})}
                ),
                clock,
            )
            await rival.start()
            await bridge.step()
            with pytest.raises(TokentideError, match="another process writes as bridge:prometheus"):
                await rival.step()
            await rival.stop()

            def counted() -> dict[tuple[str, str], int]:
                rows = {pool: store.history(*pool, 0, 4e9, 10) for pool in finished}
                return {pool: sum(int(row["requests"]) for row in found) for pool, found in rows.items()}

            await eventually(lambda: counted() == finished, 30, f"windows of {finished}")
            # No event has ever come: the bridge alone lets event time begin, and windows close.
            newest = int(time.time())
            await eventually(lambda: (store.last_closed() or 0) > newest, 60, "closed windows")

            def advised() -> bool:  # from the second window on: the first was not seen whole
                view = live.pool(*CHAT)
                return view is not None and view.recommendation is not None

            await eventually(advised, 60, "advice")
            assert live.health().events == 0

            now = time.time()
            events = [json.dumps(request_event(f"e{i}", now, model="llama", pool="chat")).encode() for i in range(9)]
            await produce(embedded_broker, settings.kafka.requests_topic, [(0, event) for event in events])
            await eventually(lambda: live.health().events == 9, 30, "events")
            await bridge.step()
            servers["a"].finish(40)
            await asyncio.sleep(5.0)  # what is told of now lies after the events
            await bridge.step()
            await bridge.stop()
            stopping = asyncio.Event()
            running = asyncio.create_task(run_bridge(settings, clock, stopping))
            finish("c", 6)
            finished[CHAT] += 9
            await eventually(lambda: counted()[CODE] == finished[CODE], 30, "the pool without events")
            stopping.set()
            await running
            await eventually(lambda: live.health().event_notes.get("bridge_ignored"), 10, "the health says so")
            told = {entry["model"]: entry for entry in status_data(live.snapshot())["bridged_pools"]}
            assert told["llama"]["has_events"]
            assert told["llama"]["ignored_requests"] + counted()[CHAT] == finished[CHAT] + 40
            assert (told["qwen"]["has_events"], told["qwen"]["counted_requests"]) == (False, finished[CODE])
        finally:
            await bridge.stop()
            await aggregate.stop()
            await control.stop()
            store.close()
            await runner.cleanup()

    asyncio.run(run())


def test_check_says_what_each_target_tells_and_writes_nothing(tmp_path: Path) -> None:
    async def run() -> list[dict[str, Any]]:
        runner, address = await serve({"a": Server(done=[]), "b": "<html>"})
        path = tmp_path / "t.toml"
        target = '[[bridge.targets]]\nurl = "{}/{}/metrics"\nmodel = "m"\n'
        path.write_text("".join(target.format(address, name) for name in "ab"))
        try:
            arguments = ["bridge", "prometheus", "--check", "-c", str(path), "-o", "json"]
            result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        finally:
            await runner.cleanup()
        assert result.exit_code == 3, result.output
        found: list[dict[str, Any]] = json.loads(result.stdout)
        return found

    good, bad = asyncio.run(run())
    assert good["ok"]
    assert {"requests.ok", "input_tokens", "ttft_seconds"} <= set(good["told"])
    assert (bad["ok"], bad["told"]) == (False, [])
    assert "no request or token counter" in bad["detail"]
