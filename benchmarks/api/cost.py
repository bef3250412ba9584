"""CPU of a read, by class of route: what other load on the machine changes little, unlike how long a read takes.

    python -m benchmarks.api.cost [--reads 300]

The API in a process of its own, over the state of 200 pools after three steps and a store with 100 minutes; this
process reads one class after the other. CPU is that of all threads of the API's process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from benchmarks.api.__main__ import MIX
from benchmarks.api.server import POOLS, pool_name, seed, with_pools
from benchmarks.stream.feed import MODEL
from benchmarks.stream.machine import describe
from benchmarks.stream.pipelined import process
from pipeline.clock import WallClock
from pipeline.config.settings import load
from pipeline.kafka.embedded_broker import free_port
from pipeline.publish.api import create_app
from pipeline.publish.exporter import Exporter
from pipeline.publish.http.server import HttpServer
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.process.tuning import tune_process

MINUTES = 100
START_SECONDS = 180.0
WARM_READS = 20
#: Reads that the mix does not have: what the store alone answers, and a scrape.
MORE = (f"/v1/windows/{MODEL}/{{pool}}?start={{old_start}}&end={{old_end}}", "/metrics", "/healthz")


async def serve(folder: Path, port: int) -> None:
    """Serve until the process ends; ``/cpu`` tells how many seconds of CPU it has used."""
    settings = with_pools(load(store={"path": folder / "cost.duckdb"}, publish={"port": port}))
    seed(settings, int(time.time()) // 60 * 60, MINUTES)
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        live = LiveState(WallClock(), settings.pools)
        newest = store.last_output()
        assert newest is not None  # it has just been written
        live.update(newest)
        store.keep_recent()
        app = create_app(live, store, settings.publish, WallClock(), Exporter(live))

        async def cpu(_: web.Request) -> web.Response:
            return web.json_response(time.process_time())

        app.router.add_get("/cpu", cpu)
        tune_process()
        await HttpServer(app, settings.publish).start()
        await asyncio.Event().wait()


async def measure(url: str, reads: int) -> dict[str, float]:
    """Return seconds of CPU of a read by class."""
    chance, end = random.Random(1), int(time.time())
    times = {"start": end - 3600, "end": end, "old_start": end - 5900, "old_end": end - 4200}
    found = {}
    async with aiohttp.ClientSession(url) as session:
        await _answers(session)
        for path in (*(path for path, _ in MIX), *MORE):
            before = 0.0
            for number in range(-WARM_READS, reads):
                if number == 0:
                    before = await _cpu(session)
                async with session.get(path.format(pool=pool_name(chance.randrange(POOLS)), **times)) as response:
                    response.raise_for_status()
                    await response.read()
            found[path.format(pool="POOL", start="S", end="E", old_start="OLD", old_end="OLD")] = (
                await _cpu(session) - before
            ) / reads
    return found


async def _cpu(session: aiohttp.ClientSession) -> float:
    async with session.get("/cpu") as response:
        return float(await response.json())


async def _answers(session: aiohttp.ClientSession) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            await _cpu(session)
            return
        except aiohttp.ClientError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=300)
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(Path(arguments.serve[0]), int(arguments.serve[1])))
        return
    with tempfile.TemporaryDirectory(prefix="tokentide-api-cost-") as folder:
        port, log = free_port(), Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.api.cost", "--serve", folder, str(port)]
        with process(command, dict(os.environ), log):
            found = asyncio.run(measure(f"http://127.0.0.1:{port}", arguments.reads))
    weights = {path.format(pool="POOL", start="S", end="E"): weight for path, weight in MIX}
    mean = sum(found[path] * weight for path, weight in weights.items()) / sum(weights.values())
    print("| read | CPU, ms |\n|---|---|")
    for path, seconds in found.items():
        print(f"| `{path}` | {1000 * seconds:.2f} |")
    print(f"| the mix of the benchmark, mean | {1000 * mean:.2f} |\n\n{json.dumps(describe())}")


if __name__ == "__main__":
    main()
