"""The fault harness: a deterministic producer, real processes to hurt, and the truth read straight from the topic.

One test is: make settings, feed events, start members, hurt them, wait until everything is stored, stop, and compare
the store with the truth per (window, key): counts, sums, histogram buckets, duplicates, dead letters, late, lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.config.settings import Settings
from pipeline.kafka.embedded_broker import free_port
from pipeline.kafka.partition_reader import log_bounds, partition_reader
from pipeline.store.store import Store
from pipeline.testing import Oracle
from tests.faults.feed import READY_SECONDS, Feed
from tests.kafka_servers import consume, stream_settings
from tests.waiting import eventually, scaled

#: The first start of a service that nothing has hurt yet, with fresh interpreters that import everything.
START_SECONDS = 3 * READY_SECONDS

#: Something to do to a member before it begins (``sabotage``).
Sabotage = Callable[[], None]


def fault_settings(bootstrap: str, folder: Path, partitions: int = 4, **sections: Any) -> Settings:
    """Small batches, a short horizon and short windows, so that a few seconds hold many of each."""
    defaults: dict[str, dict[str, Any]] = {
        "stream": {
            "max_batch_records": 500,
            "dedupe_horizon_records": 2_000,
            "shutdown_seconds": scaled(READY_SECONDS / 3),
        },
        "store": {"snapshot_every_steps": 2},
        "windows": {"grain_seconds": 10, "allowed_lateness_seconds": 10.0},
        "publish": {"port": free_port()},
    }
    for name, values in defaults.items():
        sections[name] = values | sections.get(name, {})
    return stream_settings(bootstrap, folder, partitions, **sections)


async def topic_records(settings: Settings) -> dict[int, list[tuple[int, bytes | None]]]:
    """The requests topic as it is now: {partition: (offset, value)}."""
    records: dict[int, list[tuple[int, bytes | None]]] = defaultdict(list)
    partitions = range(settings.kafka.partitions)
    for record in await consume(settings.kafka.bootstrap, settings.kafka.requests_topic, partitions):
        records[record.partition].append((record.offset, record.value))
    return records


async def truth(settings: Settings, feed: Feed) -> Oracle:
    """What the store must hold, from the records of the requests topic and nothing else."""
    horizon = settings.stream.dedupe_horizon_records
    return Oracle.from_log(await topic_records(settings), feed.poison, horizon, feed.read)


async def topic_ends(settings: Settings, topic: str) -> list[int]:
    """The end of every partition of a topic."""
    ends = []
    for partition in range(settings.kafka.partitions):
        async with partition_reader(settings.kafka, topic, partition) as (reader, tp):
            ends.append((await log_bounds(reader, tp))[1])
    return ends


# ---- processes ------------------------------------------------------------------------------------------------------


def _member(settings: Settings, stage: str, log: Path, sabotage: Sequence[Sabotage]) -> None:
    """The body of a process: what ``tokentide run --stage STAGE`` runs, after the sabotage."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for act in sabotage:
        act()
    from pipeline.stream.process.supervisor import _stage_main, configure_logging, run_all

    if stage == "all":
        configure_logging()
        raise SystemExit(run_all(settings))
    _stage_main(settings, stage)


class Fleet:
    """The processes of one pipeline, by name; a name's stage is the part before its dash ("aggregate-2").

    Members come from a server that has imported everything once, so that a restart costs a fork and not seconds of
    imports; a member that starts processes itself ("all") is an ordinary one.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.kills = 0
        self.ended_by_themselves = 0
        self._forks = multiprocessing.get_context("forkserver")
        self._forks.set_forkserver_preload(
            ["tests.faults.harness", "pipeline.stream.aggregator.aggregator", "pipeline.stream.controller.app"]
        )
        self.members: dict[str, Any] = {}
        self._assigned_before: dict[str, int] = {}  # by earlier lives

    def start(
        self, name: str, *sabotage: Sabotage, settings: Settings | None = None, instance: str | None = None
    ) -> None:
        """Start a member; its static group membership is its name, so a new life takes over from the last one."""
        settings = settings or self.settings
        own = settings.stream.model_copy(update={"instance_id": instance or name})
        settings = settings.model_copy(update={"stream": own})
        stage = name.partition("-")[0]
        child = self._forks.Process(  # type: ignore[attr-defined]
            target=_member, args=(settings, stage, self.log_path(name), sabotage), daemon=stage != "all", name=name
        )
        self._assigned_before[name] = self.assignments(name)
        child.start()
        self.members[name] = child

    def log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def log(self, name: str) -> str:
        """Everything that the lives of a member have said."""
        path = self.log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def assignments(self, name: str) -> int:
        """How often the lives of an aggregator have been given a partition."""
        return self.log(name).count("]: events count from offset")  # "realigned; events count …" is another matter

    async def joined(self, name: str) -> None:
        """Wait until the present life of an aggregator has been given a partition."""
        before = self._assigned_before[name]
        await eventually(lambda: self.assignments(name) > before, READY_SECONDS, f"{name} owns something")

    def pid(self, name: str) -> int:
        return int(self.members[name].pid)

    def alive(self, name: str) -> bool:
        return self.members[name].exitcode is None

    def kill(self, name: str) -> None:
        """SIGKILL."""
        child = self.members.pop(name)
        assert child.exitcode is None, f"{name} ended by itself: {child.exitcode}: {self.log(name)[-2000:]}"
        child.kill()
        child.join()
        self.kills += 1

    def restart(self, name: str) -> None:
        """SIGKILL and start again; one that has just ended by itself is only started again."""
        if self.alive(name):
            self.kill(name)
        else:
            self.members.pop(name)
            self.ended_by_themselves += 1
        self.start(name)

    def pause(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    async def ended(self, name: str, seconds: float = READY_SECONDS) -> int:
        """Wait until a member ends by itself; its exit status."""
        await eventually(lambda: not self.alive(name), seconds, f"{name} ends")
        return int(self.members.pop(name).exitcode)

    async def revive(self, name: str) -> None:
        """What a supervisor does: start a member again if it has ended."""
        if not self.alive(name):
            self.restart(name)

    async def leave(self, name: str, seconds: float = READY_SECONDS) -> int:
        """SIGTERM; its exit status."""
        self.members[name].terminate()
        return await self.ended(name, seconds)

    def stop(self) -> dict[str, int]:
        """SIGTERM for all, SIGKILL for those that are deaf; exit statuses."""
        for child in self.members.values():
            if child.exitcode is None:
                os.kill(child.pid, signal.SIGCONT)
                child.terminate()
        for child in self.members.values():
            child.join(scaled(READY_SECONDS / 2))
            if child.exitcode is None:
                child.kill()
                child.join()
        statuses = {name: child.exitcode for name, child in self.members.items()}
        self.members.clear()
        return statuses


# ---- waiting and comparing ------------------------------------------------------------------------------------------


async def get(settings: Settings, path: str) -> tuple[int, Any]:
    """Status and body of the controller's API; (0, None) when it does not answer."""
    url = f"http://127.0.0.1:{settings.publish.port}{path}"
    try:
        async with ClientSession(timeout=ClientTimeout(30)) as session, session.get(url) as answer:
            return answer.status, json.loads(await answer.text())
    except (ClientError, OSError, ValueError, TimeoutError):
        return 0, None


async def ready(settings: Settings) -> bool:
    return (await get(settings, "/readyz"))[0] == 200


async def stored(settings: Settings, column: str = "records") -> int:
    """A total of the ledger as the controller tells it; −1 when it does not."""
    status, body = await get(settings, "/v1/status")
    return int(body["ledger"][column]) if status == 200 else -1


async def deltas_written(settings: Settings) -> int:
    """A number that grows whenever an aggregator writes; −1 when the broker does not answer."""
    reader = AIOKafkaConsumer(bootstrap_servers=settings.kafka.bootstrap)
    topic = settings.kafka.deltas_topic
    try:
        await reader.start()
        partitions = [TopicPartition(topic, partition) for partition in range(settings.kafka.partitions)]
        return sum((await reader.end_offsets(partitions)).values())
    except KafkaError:
        return -1
    finally:
        await reader.stop()


async def all_stored(
    settings: Settings, seconds: float = READY_SECONDS, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> float:
    """Wait until every record of the topic is in the store and the service is ready; how long that took.

    ``meanwhile`` is called at every look.
    """
    wanted = sum(await topic_ends(settings, settings.kafka.requests_topic))

    async def done() -> bool:
        if meanwhile is not None:
            await meanwhile()
        return await stored(settings) + await stored(settings, "lost") >= wanted and await ready(settings)

    return await eventually(done, seconds, f"{wanted} records stored and ready", progress=lambda: stored(settings))


async def assert_exact(
    settings: Settings, feed: Feed, *, lost: int = 0, oracle: Oracle | None = None, letters: bool = True
) -> Oracle:
    """Compare the store (nobody owns it any more) with the truth, and the topic of dead letters with both."""
    expected = await truth(settings, feed) if oracle is None else oracle
    expected.lost = lost
    with Store.open(settings.store.path, settings.store, settings.windows) as store:
        differences = expected.differences(store)
        assert differences == [], "\n".join(differences[:20])
        grain = settings.windows.grain_seconds
        steps = [as_of for (as_of,) in store.cursor().execute("SELECT as_of FROM steps ORDER BY 1").fetchall()]
        assert all((b - a) % grain == 0 and b > a for a, b in itertools.pairwise(steps))
        refused = set(
            store.cursor()
            .execute("SELECT source_partition::VARCHAR, source_offset::VARCHAR FROM dead_letters")
            .fetchall()
        )
    if letters:
        told = await consume(settings.kafka.bootstrap, settings.kafka.dead_letters_topic)
        where = [dict(record.headers) for record in told]
        copies = {(h["dlq.partition"].decode(), h["dlq.offset"].decode()) for h in where}
        assert copies == refused, "every dead letter has a copy, and no copy is of anything else"
    return expected


@asynccontextmanager
async def exact(fleet: Fleet, feed: Feed, *, orderly: bool = False) -> AsyncIterator[None]:
    """What a fault test comes to: hurt the fleet inside, and then everything must be stored, and be the truth.

    ``orderly``: every member that is left ends with status 0 when it is told to.
    """
    try:
        yield
        took = await all_stored(fleet.settings)
        print(f"everything stored {took:.1f} s after the last event")
        statuses = fleet.stop()
        assert not orderly or set(statuses.values()) == {0}, statuses
    finally:
        fleet.stop()
    await assert_exact(fleet.settings, feed)


async def feeding(feed: Feed, hurt: Callable[[], Awaitable[None]], **rate: Any) -> None:
    """Run ``hurt`` while events flow, then let the last ones arrive."""
    feed.stopping = False
    task = asyncio.create_task(feed.run(**rate))
    try:
        await hurt()
    finally:
        feed.stopping = True
        await task


if __name__ == "__main__":
    sys.exit("a module of the fault tests; run pytest")
