"""Tokentide's own aggregator with everything it does in production: it decodes and validates every event in full,
recognises duplicates, folds all measures and histograms, writes the deltas and waits for the broker to have them.

With the option ``share`` it is one of several in its group, and is done when told so on its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

from benchmarks.stream.readers.common import Meter, Task, read_task, report
from pipeline.clock import WallClock
from pipeline.config.settings import Settings, load
from pipeline.kafka.partition_reader import log_bounds, partition_reader, read_records
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.process.supervisor import configure_logging
from pipeline.stream.process.tuning import tune_process
from pipeline.windows.delta import decode
from pipeline.windows.types import MEASURES

_STEP = 64


def settings_for(task: Task) -> Settings:
    """Defaults, except for names, and for the age of events: the topic may be of last year."""
    return load(
        kafka={
            "bootstrap": task.bootstrap,
            "requests_topic": task.topic,
            "deltas_topic": task.options["deltas_topic"],
            "dead_letters_topic": task.options["dead_letters_topic"],
            "group_prefix": task.name,
        },
        stream={"instance_id": task.options.get("instance", "one"), **task.options.get("stream", {})},
    )


async def totals_of(settings: Settings, partitions: int) -> dict[str, int]:
    """Read the deltas back and add them up."""
    sums = dict.fromkeys(("events", "latency_ms", "output_tokens", "delta_bytes", "deltas", "mass"), 0)
    groups: set[tuple[str, str, int]] = set()
    for partition in range(partitions):
        async with partition_reader(settings.kafka, settings.kafka.deltas_topic, partition) as (reader, tp):
            begin, end = await log_bounds(reader, tp)
            for start in range(begin, end, _STEP):
                for record in await read_records(reader, tp, start, min(end, start + _STEP)):
                    delta = decode(record.value)
                    sums["events"] += delta.events
                    sums["output_tokens"] += sum(delta.rows.measures[MEASURES.index("output_tokens")])
                    sums["latency_ms"] += sum(delta.rows.measures[MEASURES.index("inflight_milliseconds")])
                    sums["mass"] += sum(delta.histograms.n)
                    sums["delta_bytes"] += len(record.value)
                    sums["deltas"] += not delta.idle
                    groups.update(
                        (delta.keys[k].model, delta.keys[k].pool, w)
                        for k, w in zip(delta.rows.key, delta.rows.window, strict=True)
                    )
    return {**sums, "arrival_groups": len(groups)}


async def run(task: Task) -> None:
    """Read the task's events (or a share of them) through the real app."""
    settings = settings_for(task)
    app = aggregator_app(settings, WallClock())
    meter, done = Meter(), asyncio.Event()
    stats = app.aggregator.stats
    take = app.aggregator.take
    share = bool(task.options.get("share"))
    measured: dict[str, float] = {}

    async def timed(batch: Any) -> None:
        meter.start()
        await take(batch)
        if share:
            measured.update(meter.stop())
        if stats.records >= task.events:
            done.set()

    app.aggregator.take = timed
    app.finalize()
    await app.start()
    if share:
        loop = asyncio.get_running_loop()

        def obey() -> None:
            for line in sys.stdin:
                if line.strip() == "stop":
                    loop.call_soon_threadsafe(done.set)
                else:
                    print(json.dumps({"records": stats.records}), flush=True)

        threading.Thread(target=obey, daemon=True).start()
    await done.wait()
    if not share:
        measured = meter.stop()
    batches, deltas = stats.batches, stats.deltas
    await app.stop()
    totals = {"events": stats.events} if share else await totals_of(settings, task.options["partitions"])
    report(measured, totals, batches=batches, deltas=deltas)


if __name__ == "__main__":
    configure_logging()
    tune_process()  # as ``tokentide run`` does
    asyncio.run(run(read_task()))
    sys.stdout.flush()
    os._exit(0)  # Faust's worker threads are of no use any more
