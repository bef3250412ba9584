"""Plain Faust: an ordinary agent on its ordinary aiokafka transport, event by event, or with ``take`` (option)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import faust

from benchmarks.stream.readers.common import EventWindows, Meter, Task, read_task, report


async def read(task: Task) -> None:
    """Read the task's events."""
    app = faust.App(
        task.name,
        broker=f"kafka://{task.bootstrap}",
        store="memory://",
        datadir=str(Path(tempfile.gettempdir()) / task.name),
        consumer_auto_offset_reset="earliest",
        cython_optimizations=True,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    topic = app.topic(task.topic, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")
    meter, windows, done = Meter(), EventWindows(), asyncio.Event()

    @app.agent(topic)
    async def count(stream: Any) -> None:
        if task.options.get("take"):
            async for batch in stream.take(5_000, within=0.5):
                meter.start()
                for value in batch:
                    windows.add(value)
                if windows.events >= task.events:
                    done.set()
        else:
            async for value in stream:
                meter.start()
                windows.add(value)
                if windows.events >= task.events:
                    done.set()

    app.finalize()
    await app.start()
    await done.wait()
    measured = meter.stop()
    report(measured, windows.totals())
    await app.stop()


if __name__ == "__main__":
    asyncio.run(read(read_task()))
