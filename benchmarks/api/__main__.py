"""The HTTP API of 200 pools under 100 reads a second, and ``/metrics`` in a storm of history reads.

    python -m benchmarks.api [--seconds 20] [--results benchmarks/api/results.md]

The server is a process of its own with a real store and the engine, which closes a minute of all pools every ten
seconds (six times as often as live). Reads come at fixed times, whatever became of those before; a latency counts from
that time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.api.server import MINUTES, MODEL, POOLS, START
from benchmarks.stream.machine import describe

READS_PER_SECOND = 100
STORM = 40  # history reads at a time
SCRAPES_PER_SECOND = 4

END = START + 60 * MINUTES
#: Path and weight; ``{}`` is a pool.
MIX = (
    (f"/v1/recommendations/{MODEL}/{{}}", 50),
    (f"/v1/forecasts/{MODEL}/{{}}", 15),
    ("/v1/recommendations", 10),
    ("/v1/status", 10),
    ("/v1/pools?limit=50", 5),
    (f"/v1/windows/{MODEL}/{{}}?start={END - 3600}&end={END}", 8),
    (f'/prometheus/api/v1/query_range?query=tokentide_demand_requests_per_second{{{{pool="{{}}"}}}}&start={END - 3600}'
     f"&end={END}&step=60", 2),
)  # fmt: skip
HISTORY = f"/v1/windows/{MODEL}/{{}}?start={START}&end={END}"


async def read(session: aiohttp.ClientSession, path: str, due: float, told: list[tuple[float, int]]) -> None:
    wait = due - time.perf_counter()
    if wait > 0:
        await asyncio.sleep(wait)
    async with session.get(path) as response:
        await response.read()
    told.append((time.perf_counter() - due, response.status))


async def stream(session: aiohttp.ClientSession, paths: list[str], rate: float) -> list[tuple[float, int]]:
    told: list[tuple[float, int]] = []
    begin = time.perf_counter()
    await asyncio.gather(*(read(session, path, begin + i / rate, told) for i, path in enumerate(paths)))
    return told


async def storm(session: aiohttp.ClientSession, seconds: float) -> list[tuple[float, int]]:
    """``STORM`` clients that read all of a pool's history, one after the other."""
    told: list[tuple[float, int]] = []
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < until:
            await read(session, HISTORY.format(f"pool-{number:03d}"), time.perf_counter(), told)
            if told[-1][1] == 503:
                await asyncio.sleep(1.0)

    await asyncio.gather(*(client(number) for number in range(STORM)))
    return told


def summary(told: list[tuple[float, int]]) -> dict[str, Any]:
    answered = [1000 * seconds for seconds, status in told if status == 200]
    codes = {status: sum(1 for _, code in told if code == status) for status in {code for _, code in told}}
    p50, p99 = np.quantile(answered, (0.5, 0.99)) if answered else (float("nan"),) * 2
    return {"reads": len(told), "statuses": codes, "p50_ms": float(p50), "p99_ms": float(p99)}


def processor_seconds(process: int) -> float:
    """What a process has used so far."""
    used = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


async def measure(url: str, process: int, seconds: float) -> dict[str, Any]:
    chance = random.Random(1)
    paths, weights = zip(*MIX, strict=True)
    reads = [
        path.format(f"pool-{chance.randrange(POOLS):03d}")
        for path in chance.choices(paths, weights, k=int(READS_PER_SECOND * seconds))
    ]
    scrapes = ["/metrics"] * int(SCRAPES_PER_SECOND * seconds)
    found: dict[str, Any] = {}
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connections) as session:
        await stream(session, [path.format("pool-000") for path in paths], 10)
        found["metrics, idle"] = summary(await stream(session, scrapes, SCRAPES_PER_SECOND))
        marks = [processor_seconds(process)]
        api, metrics = await asyncio.gather(
            stream(session, reads, READS_PER_SECOND), stream(session, scrapes, SCRAPES_PER_SECOND)
        )
        marks.append(processor_seconds(process))
        found[f"API, {READS_PER_SECOND} reads/s"] = summary(api)
        found[f"metrics, {READS_PER_SECOND} reads/s of the API"] = summary(metrics)
        history, metrics = await asyncio.gather(storm(session, seconds), stream(session, scrapes, SCRAPES_PER_SECOND))
        found[f"history, {STORM} readers"] = summary(history)
        found[f"metrics, {STORM} readers of history"] = summary(metrics)
        marks.append(processor_seconds(process))
        idle, loaded = marks[1] - marks[0], marks[2] - marks[1]
        found["cpu"] = f"{idle:.1f} s with {len(scrapes)} scrapes and {len(reads)} reads, {loaded:.1f} s in the storm"
        async with session.get("/v1/status") as response:
            found["steps"] = (await response.json())["steps"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.api.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            found = asyncio.run(measure(server.stdout.readline().strip(), server.pid, arguments.seconds))
        finally:
            server.terminate()
    idle = found["metrics, idle"]["p99_ms"]
    lines = ["| what | reads | p50, ms | p99, ms | statuses |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['reads']} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} | {json.dumps(row['statuses'])} |"
        for name, row in found.items()
        if isinstance(row, dict)
    ]
    worst = found[f"metrics, {STORM} readers of history"]["p99_ms"]
    lines += ["", f"/metrics, p99 in the storm over p99 idle: {worst / idle:.1f} (bar: 5). Steps: {found['steps']}."]
    lines += [f"Load average at the end: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores."]
    lines += [f"Processor time of the server, engine included: {found['cpu']}."]
    text = "\n".join(lines)
    print(text)
    if arguments.results is not None:
        where = json.dumps(describe())
        arguments.results.write_text(f"{__doc__}\n{text}\n\n{where}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
