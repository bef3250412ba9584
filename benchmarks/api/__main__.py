"""The HTTP API of 200 pools beside 20,000 events/s: 100 reads a second, boards that listen, a storm of history reads.

    python -m benchmarks.api [--rate 20000] [--seconds 65] [--storm 30] [--trace] [--results benchmarks/api/results.md]

The pipeline as an operator runs it: an embedded broker, the aggregator, the controller, each a process; a process that
feeds live events; and this one, which reads. Before them the store has an evening of history. Steps are those of live
operation, one a minute. Reads come at fixed times, whatever became of those before; a latency counts from that time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.api.server import MINUTES, POOLS, pool_name, seed, with_pools
from benchmarks.api.trace import Read, tables
from benchmarks.stream.feed import MODEL
from benchmarks.stream.machine import describe
from benchmarks.stream.pipelined import feeding, get, pipeline_settings, process, stage
from pipeline.config.settings import to_environment
from pipeline.kafka.embedded_broker import EmbeddedBroker

READS_PER_SECOND = 100
LISTENERS = 5  # boards
STORM = 40  # history reads at a time
SCRAPES_PER_SECOND = 4
IDLE_SECONDS = 15.0
START_SECONDS = 180.0
MOST_BEHIND_SECONDS = 5.0  # events that are stored so late or less: the pipeline has caught up

#: Path and weight; ``{}`` is a pool, ``{start}`` and ``{end}`` the newest hour.
MIX = (
    (f"/v1/recommendations/{MODEL}/{{pool}}", 50),
    (f"/v1/forecasts/{MODEL}/{{pool}}", 15),
    ("/v1/recommendations", 10),
    ("/v1/status", 10),
    ("/v1/pools?limit=50", 5),
    (f"/v1/windows/{MODEL}/{{pool}}?start={{start}}&end={{end}}", 8),
    ('/prometheus/api/v1/query_range?query=tokentide_demand_requests_per_second{{pool="{pool}"}}&start={start}'
     "&end={end}&step=60", 2),
)  # fmt: skip
#: The share of reads that the store answers.
STORED = 0.1
HISTORY = f"/v1/windows/{MODEL}/{{pool}}?start={{start}}&end={{end}}"

#: Every read of this process.
READS: list[Read] = []

Told = list[tuple[float, int]]
Heard = list[tuple[float, int]]


async def read(session: aiohttp.ClientSession, path: str, due: float, told: Told) -> None:
    wait = due - time.perf_counter()
    if wait > 0:
        await asyncio.sleep(wait)
    async with session.get(path) as response:
        body = await response.read()
    took = time.perf_counter() - due
    told.append((took, response.status))
    READS.append(Read(time.time() - took, took, path, len(body)))


async def stream(session: aiohttp.ClientSession, paths: list[str], rate: float) -> Told:
    told: Told = []
    begin = time.perf_counter()
    await asyncio.gather(*(read(session, path, begin + i / rate, told) for i, path in enumerate(paths)))
    return told


async def storm(session: aiohttp.ClientSession, seconds: float) -> Told:
    """``STORM`` clients that read all of a pool's history, one after the other."""
    told: Told = []
    until = time.perf_counter() + seconds
    end = int(time.time())

    async def client(number: int) -> None:
        path = HISTORY.format(pool=pool_name(number), start=end - 60 * MINUTES, end=end)
        while time.perf_counter() < until:
            await read(session, path, time.perf_counter(), told)
            if told[-1][1] == 503:
                await asyncio.sleep(1.0)

    await asyncio.gather(*(client(number) for number in range(STORM)))
    return told


async def listen(session: aiohttp.ClientSession, heard: Heard) -> None:
    """A board: when each status came (epoch seconds), and how far steps had come by then."""
    async with session.get("/board/stream", timeout=aiohttp.ClientTimeout(total=None)) as response:
        async for line in response.content:
            if line.startswith(b"data: "):
                heard.append((time.time(), json.loads(line[6:])["as_of"]))


def summary(told: Told) -> dict[str, Any]:
    answered = [1000 * seconds for seconds, status in told if status == 200]
    codes = {status: sum(1 for _, code in told if code == status) for status in {code for _, code in told}}
    p50, p99 = np.quantile(answered, (0.5, 0.99)) if answered else (float("nan"),) * 2
    return {"reads": len(told), "statuses": codes, "p50_ms": float(p50), "p99_ms": float(p99)}


def processor_seconds(number: int) -> float:
    """What a process has used so far."""
    used = Path(f"/proc/{number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


class Shares:
    """Cores that each process took, on average, from one look to the next."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self._before = self._now()

    def _now(self) -> tuple[float, dict[str, float]]:
        return time.monotonic(), {name: processor_seconds(number) for name, number in self._processes.items()}

    def taken(self) -> dict[str, float]:
        """Return the cores by process since the last call."""
        (before, used), self._before = self._before, self._now()
        now, using = self._before
        return {name: (using[name] - used[name]) / (now - before) for name in using}


async def events(session: aiohttp.ClientSession) -> tuple[float, int]:
    async with session.get("/v1/status") as response:
        return time.monotonic(), (await response.json())["ledger"]["events"]


def fed(log: Path) -> tuple[float, int]:
    """How many events the feed has sent by now."""
    told = log.read_text(encoding="ascii").split()
    return time.monotonic(), int(told[-1]) if told else 0


def rate_of(first: tuple[float, int], last: tuple[float, int]) -> float:
    return (last[1] - first[1]) / (last[0] - first[0])


async def measure(url: str, log: Path, processes: Mapping[str, int], seconds: float, stormy: float) -> dict[str, Any]:
    chance = random.Random(1)
    end = int(time.time())
    paths, weights = zip(*MIX, strict=True)
    reads = [
        path.format(pool=pool_name(chance.randrange(POOLS)), start=end - 3600, end=end)
        for path in chance.choices(paths, weights, k=int(READS_PER_SECOND * seconds))
    ]
    found: dict[str, Any] = {"shares": {}}
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        await stream(session, reads[:100], 20)

        async def scraped(until: float) -> Told:
            return await stream(session, ["/metrics"] * int(SCRAPES_PER_SECOND * until), SCRAPES_PER_SECOND)

        shares = Shares(processes)
        found["/metrics, idle"] = summary(await scraped(IDLE_SECONDS))
        found["shares"]["scrapes alone"] = shares.taken()
        first, first_fed = await events(session), fed(log)
        READS.clear()
        heard: list[Heard] = [[] for _ in range(LISTENERS)]
        boards = [asyncio.create_task(listen(session, into)) for into in heard]
        live, history, metrics = await asyncio.gather(
            stream(session, [path for path in reads if "start=" not in path], READS_PER_SECOND * (1 - STORED)),
            stream(session, [path for path in reads if "start=" in path], READS_PER_SECOND * STORED),
            scraped(seconds),
        )
        for board in boards:
            board.cancel()
        await asyncio.gather(*boards, return_exceptions=True)
        found["shares"]["API"] = shares.taken()
        found["traced"] = list(READS)
        found["stored_per_second"] = rate_of(first, await events(session))
        found["fed_per_second"] = rate_of(first_fed, fed(log))
        found[f"API, {READS_PER_SECOND} reads/s"] = summary([row for rows in (live, history) for row in rows])
        found["… of those that memory answers"] = summary(live)
        found["… of those that the store answers"] = summary(history)
        found[f"/metrics, {READS_PER_SECOND} reads/s of the API"] = summary(metrics)
        found["heard"] = heard
        history, metrics = await asyncio.gather(storm(session, stormy), scraped(stormy))
        found["shares"]["storm"] = shares.taken()
        found[f"history, {STORM} readers"] = summary(history)
        found[f"/metrics, {STORM} readers of history"] = summary(metrics)
    return found


def run(rate: float, seconds: float, stormy: float, *, traced: bool) -> dict[str, Any]:
    """Start everything, measure, stop everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tokentide-api-")))
        broker = stack.enter_context(EmbeddedBroker())
        settings = pipeline_settings(broker.bootstrap, folder)
        seed(with_pools(settings), int(time.time()) // 60 * 60)
        log, measured = folder / "log", folder / "measured.json"
        command = [sys.executable, "-m", "benchmarks.api.server", str(measured), *(["trace"] if traced else [])]
        with process(command, os.environ | to_environment(settings), log) as controller:
            aggregator = stack.enter_context(stage(settings, "aggregate", log))
            feeder = stack.enter_context(feeding(settings, rate, POOLS, folder / "fed"))
            began = time.monotonic()
            while not _caught_up(get(settings, "/v1/status")):
                if time.monotonic() > began + START_SECONDS:
                    raise RuntimeError(f"the pipeline does not keep up: {log.read_text()[-2000:]}")
                time.sleep(0.5)
            pids = {"controller": controller.pid, "aggregator": aggregator.pid, "feed": feeder.pid}
            pids |= {"broker": broker.pid or 0, "readers": os.getpid()}
            url = f"http://127.0.0.1:{settings.publish.port}"
            found = asyncio.run(measure(url, folder / "fed", pids, seconds, stormy))
        return found | json.loads(measured.read_text(encoding="utf-8"))


def _caught_up(status: Any) -> bool:
    lag = None if not status or not status["ready"] else status["watermark_lag_seconds"]
    return lag is not None and lag < MOST_BEHIND_SECONDS


def report(found: dict[str, Any], rate: float) -> str:
    """The tables of the results file."""
    lines = ["| what | reads | p50, ms | p99, ms | statuses |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {row['reads']} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f} | {json.dumps(row['statuses'])} |"
        for name, row in found.items()
        if isinstance(row, dict) and "reads" in row
    ]
    idle, worst = found["/metrics, idle"]["p99_ms"], found[f"/metrics, {STORM} readers of history"]["p99_ms"]
    waited = found["closed_to_published"]
    p50, p99 = np.quantile(waited, (0.5, 0.99)) if waited else (float("nan"),) * 2
    gaps = [b[0] - a[0] for board in found["heard"] for a, b in itertools.pairwise(board)]
    late = [
        next(at for at, as_of in board if as_of == step) - found["shown"][str(step)]
        for board in found["heard"]
        for step in sorted({as_of for _, as_of in board[1:]} - {board[0][1]})
        if str(step) in found["shown"]
    ]
    lines += [
        "",
        "- Bars: API p99 ≤ 50 ms; /metrics p99 ≤ 100 ms; closed → published p99 ≤ 1 s; storm ≤ 5 × idle.",
        f"- /metrics, p99 in the storm over p99 idle: {worst / idle:.1f}.",
        f"- Closed → published, {len(waited)} pools' windows: p50 {p50:.2f} s, p99 {p99:.2f} s.",
        f"- {LISTENERS} boards: between two statuses p99 {np.quantile(gaps, 0.99):.2f} s; a step was on the board at "
        f"most {max(late, default=float('nan')):.2f} s after it was shown.",
        f"- Events a second: {rate:,.0f} asked, {found['fed_per_second']:,.0f} fed, {found['stored_per_second']:,.0f} "
        "stored.",
        "",
        "| cores taken | " + " | ".join(found["shares"]["API"]) + " |",
        "|---|" + "---|" * len(found["shares"]["API"]),
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{share:.2f}" for share in taken.values()) + " |"
        for name, taken in found["shares"].items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=65.0, help="long enough for a step")
    parser.add_argument("--storm", type=float, default=30.0)
    parser.add_argument("--trace", action="store_true", help="say where the time goes: routes, seconds, threads")
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    found = run(arguments.rate, arguments.seconds, arguments.storm, traced=arguments.trace)
    text = report(found, arguments.rate)
    if arguments.trace:
        text += "\n\n" + tables(found["traced"], found["threads"])
    text += f"\n\nLoad average at the end: {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores."
    print(text)
    if arguments.results is not None:
        where = json.dumps(describe())
        arguments.results.write_text(f"{__doc__}\n{text}\n\n{where}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
