"""The server of the benchmark: 200 pools with an evening of history, the engine, a store, the API."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path

from pipeline.clock import ManualClock
from pipeline.config.settings import PoolSettings, PublishSettings, Settings
from pipeline.engine.advisor import Advisor
from pipeline.engine.types import StepInput, StepOutput
from pipeline.publish.api import create_app
from pipeline.publish.exporter import Exporter
from pipeline.publish.health import PipelineHealth
from pipeline.publish.http.server import HttpServer
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.testing import closed_window
from pipeline.windows.types import ClosedWindow

MODEL = "llama-3.1-8b-instruct"
POOLS = 200
START = 1_760_486_400
MINUTES = 360
ADVISED_MINUTES = 6  # before the first read
EVERY_SECONDS = 10.0


def windows(pools: tuple[PoolSettings, ...], as_of: int) -> tuple[ClosedWindow, ...]:
    return tuple(
        closed_window(
            as_of - 60,
            300 + (index * 7 + as_of // 60 * 13) % 100,
            model=pool.model,
            pool=pool.pool,
            input_tokens=900,
            output_tokens=240,
            e2e_milliseconds=6_500,
            current_replicas=4,
            ready_replicas=4,
        )
        for index, pool in enumerate(pools)
    )


def main() -> None:
    pools = tuple(
        PoolSettings(model=MODEL, pool=f"pool-{i:03d}", profile="llama-3.1-8b", accelerator="L40S")
        for i in range(POOLS)
    )
    clock = ManualClock(START)
    live = LiveState(clock, pools, "benchmark")
    live.set_health(PipelineHealth(ready=True))
    advisor, exporter = Advisor(Settings(pools=pools)), Exporter(live)
    store = Store.open(Path(tempfile.mkdtemp()) / "benchmark.duckdb")
    first = START + 60 * (MINUTES - ADVISED_MINUTES)
    store.record_steps([StepOutput(at, windows(pools, at)) for at in range(START + 60, first + 1, 60)])

    def step(as_of: int) -> None:
        output = advisor.step(StepInput(as_of, windows(pools, as_of)))
        clock.set(as_of + 65.0)
        store.record_step(output)
        live.update(output)
        exporter.prepare()

    for as_of in range(first + 60, START + 60 * MINUTES + 1, 60):
        step(as_of)

    def engine() -> None:
        for minute in range(MINUTES + 1, 10**6):
            time.sleep(EVERY_SECONDS)
            step(START + 60 * minute)

    async def serve() -> None:
        settings = PublishSettings(port=0)
        http = HttpServer(create_app(live, store, settings, clock, exporter), settings)
        await http.start()
        threading.Thread(target=engine, daemon=True).start()
        print(f"http://127.0.0.1:{http.port}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
