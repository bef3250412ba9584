"""The events of the fault harness: a deterministic producer, with retries and poison among them."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.config.settings import Settings
from pipeline.testing import request_event
from tests.faults.dialects import DIALECTS, UNRELATED_SPAN, in_dialect
from tests.kafka_servers import produce
from tests.waiting import scaled

__all__ = ["MODELS", "POISON", "READY_SECONDS", "Feed"]

#: A service that was hurt must be ready, with everything stored, this many seconds of a quiet reference machine after
#: the hurt ends (``tests.waiting``), or after the last record that was stored.
READY_SECONDS = 60.0

#: What can lie in the topic that is no event, and the reason with which it must become a dead letter.
POISON: dict[bytes | None, str] = {
    b'{"broken': "malformed",
    b"\xff\xfe\x00": "malformed",
    None: "empty",
    b'{"event_id":"x","model":"m","status":"ok","input_tokens":-5,"output_tokens":1,"arrived_at":1,"e2e_seconds":1}': (
        "negative"
    ),
}

MODELS = 5


class Feed:
    """Events by a seed: five models, every status, producer retries and poison among them.

    ``delay_seconds`` is how long before "now" a request arrives (up to it, drawn evenly); retries come at once. Not
    ``hostile``: no retries, no poison, and each model has a partition of its own, which is what a keyed table needs.
    ``mixed``: the records are of many formats, in turn, for the codec "auto"; ``read`` knows what each of them says.
    Arrival times follow the clock, so totals and contents are given by the seed, windows are not: the truth is read
    from the topic.
    """

    def __init__(
        self,
        settings: Settings,
        seed: int,
        delay_seconds: float = 5.0,
        hostile: bool = True,
        mixed: bool = False,
    ) -> None:
        self.settings = settings
        self._hostile = hostile
        self._rng = random.Random(seed)
        self._delay = delay_seconds
        self.poison = dict(POISON)
        self._mixed = mixed
        self._said: dict[bytes, dict[str, Any] | None] = {UNRELATED_SPAN: None}
        self.made = 0
        self.stopping = False

    def event(self, at: float, **fields: Any) -> dict[str, Any]:
        """The next event, arrived at ``at`` (epoch seconds)."""
        i, rng = self.made, self._rng
        self.made += 1
        status = rng.choices(["ok", "error", "rejected", "cancelled", "timeout"], [90, 3, 3, 2, 2])[0]
        values: dict[str, Any] = {
            "model": f"m{i % MODELS}",
            "status": status,
            "input_tokens": rng.randrange(4_000),
            "output_tokens": rng.randrange(800) if status == "ok" else 0,
            "e2e_seconds": round(rng.uniform(0.1, 0.9), 3),
            "ttft_seconds": round(rng.uniform(0.01, 0.1), 3),
        }
        return request_event(f"e{i}", at, **(values | fields))

    def records(self, count: int, at: float | None = None) -> list[tuple[int, bytes | None]]:
        """About ``count`` records as (partition, value), arrived just before ``at`` (epoch seconds; None: now)."""
        partitions = self.settings.kafka.partitions
        records: list[tuple[int, bytes | None]] = []
        for _ in range(count):
            i = self.made
            arrived = (time.time() if at is None else at) - 1.0 - self._rng.random() * self._delay
            value = self._record(self.event(round(arrived, 6)))
            if not self._hostile:
                records.append((i % MODELS % partitions, value))
                continue
            records.append((i % partitions, value))
            if i % 1_009 == 0:
                records.append((i % partitions, value))
            if i % 4_001 == 0:
                records.append((i % partitions, self._rng.choice(list(POISON))))
            if self._mixed and i % 307 == 0:
                records.append((i % partitions, UNRELATED_SPAN))
        return records

    def _record(self, event: dict[str, Any]) -> bytes:
        if not self._mixed:
            return in_dialect("native", event)
        value = in_dialect(tuple(DIALECTS)[self.made % len(DIALECTS)], event)
        self._said[value] = event
        return value

    def read(self, value: bytes) -> dict[str, Any] | None:
        """What a record that is no poison says, without a codec of ours; None: nothing about a request."""
        return self._said[value] if value in self._said else json.loads(value)

    async def send(self, count: int, at: float | None = None) -> None:
        """Produce about ``count`` records and wait until the broker has them.

        They are made when the producer is connected, which takes a while on a busy machine: none is late by that.
        """
        await self.write(record for _ in (count,) for record in self.records(count, at))

    async def write(self, records: Iterable[tuple[int, bytes | None]]) -> None:
        """Produce these very records."""
        await produce(self.settings.kafka.bootstrap, self.settings.kafka.requests_topic, records)

    async def run(self, batch: int = 400, pause_seconds: float = 0.1, at_least: int = 0) -> None:
        """Produce without end until ``stopping`` (and at least so many events)."""
        # What the producer holds must outlive a broker that is away, however long it takes to come back.
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap,
            linger_ms=5,
            request_timeout_ms=int(1000 * scaled(READY_SECONDS)),
        )
        await producer.start()
        try:
            pending: list[Any] = []
            while not (self.stopping and self.made >= at_least):
                for partition, value in self.records(batch):
                    key = b"k" if value is None else None
                    pending.append(
                        await producer.send(self.settings.kafka.requests_topic, value, key=key, partition=partition)
                    )
                pending = [future for future in pending if not future.done() or future.exception() is not None]
                await asyncio.sleep(pause_seconds)
            await asyncio.gather(*pending)
        finally:
            await producer.stop()
