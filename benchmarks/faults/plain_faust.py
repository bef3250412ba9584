"""The same count in plain Faust, as its documentation has it: an agent, a tumbling table in event time, a changelog."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

from tests.kafka_servers import consume

WINDOW_SECONDS = 10


def worker(bootstrap: str, group: str, topic: str, partitions: int, log: Path) -> None:
    """One process that counts requests by (model, window) until it is killed."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import faust

    class Request(faust.Record, serializer="json"):
        model: str
        arrived_at: float

    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(log.parent / "faust"),
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.2,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=group,
        topic_disable_leader=True,
        topic_partitions=partitions,
        table_standby_replicas=0,
        web_enabled=False,
    )
    requests = app.topic(topic, value_type=Request)
    counts = (
        app.Table("counts", default=int, partitions=partitions)
        .tumbling(WINDOW_SECONDS, expires=86_400.0)
        .relative_to_field(Request.arrived_at)
    )

    @app.agent(requests, concurrency=1)  # type: ignore[untyped-decorator]
    async def count(stream: object) -> None:
        async for request in stream:  # type: ignore[attr-defined]
            counts[request.model] += 1

    async def serve() -> None:
        app.finalize()
        await app.start()
        await app._crashed.wait()

    asyncio.run(serve())


def changelog(group: str) -> str:
    """The topic in which the table of ``group`` is kept."""
    return f"{group}-counts-changelog"


async def counted(bootstrap: str, group: str, partitions: int) -> Counter[tuple[str, int]]:
    """What the table's changelog holds: the newest count by (model, window start)."""
    newest: dict[bytes, int] = {}
    for record in await consume(bootstrap, changelog(group), range(partitions)):
        newest[record.key] = json.loads(record.value) if record.value else 0
    found: Counter[tuple[str, int]] = Counter()
    for key, n in newest.items():
        model, (start, _) = json.loads(key)
        found[model, int(start)] += n
    return found
