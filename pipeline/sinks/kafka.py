"""Publishes what each step says to Kafka, in the shapes of ``schemas/``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from pipeline.config.settings import Settings
from pipeline.engine.types import StepOutput
from pipeline.errors import ServerUnavailable
from pipeline.kafka.producer import new_producer
from pipeline.publish.json import to_json

__all__ = ["KafkaSink"]

#: Bytes of a batch of results: a step of a thousand pools is twenty thousand records, and a batch is a round trip.
_BATCH_BYTES = 256 * 1024


class KafkaSink:
    """Writes windows, forecasts, recommendations and alerts to their topics, keyed ``model|pool``; a resource.

    At least once: after a crash the last step is published again. Consumers tell by ``recommendation_id``, ``alert_id``
    or (key, time). Records are put into batches here, which costs a fraction of handing them over one by one; a key's
    partition is that of Kafka's default partitioner.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None
        self.dropped = 0  # a required destination: what it does not take ends the process

    async def start(self) -> None:
        """Connect."""
        if self._settings.kafka.publish_results:
            self._producer = new_producer(self._settings, "results", batch_bytes=_BATCH_BYTES)
            await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, output: StepOutput, *, finished: bool = True) -> None:  # noqa: ARG002
        """Write a step, or a part of one, and wait until the broker has it; nothing happens when this is switched off.

        Raises:
            ServerUnavailable: the broker refused or did not answer.
        """
        if self._producer is None:
            return
        kafka = self._settings.kafka
        topics: dict[str, list[tuple[str, str, Any]]] = {
            kafka.windows_topic: [(w.model, w.pool, w) for w in output.windows],
            kafka.forecasts_topic: [(f.series.model, f.series.pool, f) for f in output.forecasts],
            kafka.recommendations_topic: [(r.model, r.pool, r) for r in output.recommendations],
            kafka.alerts_topic: [(a.model, a.pool, a) for a in output.alerts],
        }
        try:
            partitions = {
                topic: sorted(await self._producer.partitions_for(topic)) for topic in topics if topics[topic]
            }
            # Beside the event loop: a part of a step can be a thousand records.
            batches = await asyncio.to_thread(self._batches, topics, partitions)
            await asyncio.gather(*(self._send(*place, found) for place, found in batches.items()))
        except KafkaError as error:
            raise ServerUnavailable(f"results cannot be published: {error!r}") from error

    def _batches(
        self, topics: Mapping[str, Sequence[tuple[str, str, Any]]], partitions: Mapping[str, Sequence[int]]
    ) -> dict[tuple[str, int], list[Any]]:
        """Return the records as batches by topic and partition; those of a partition in their order."""
        found: dict[tuple[str, int], list[Any]] = {}
        for topic, numbers in partitions.items():
            for model, pool, noun in topics[topic]:
                key, value = f"{model}|{pool}".encode("utf-8", "replace"), to_json(noun)
                batches = found.setdefault((topic, numbers[_partition(key, len(numbers))]), [])
                if not batches or batches[-1].append(key=key, value=value, timestamp=None) is None:  # full
                    batches.append(self._producer.create_batch())
                    batches[-1].append(key=key, value=value, timestamp=None)
        return found

    async def _send(self, topic: str, partition: int, batches: Sequence[Any]) -> None:
        sent = [await self._producer.send_batch(batch, topic, partition=partition) for batch in batches]
        await asyncio.gather(*sent)


@lru_cache(maxsize=100_000)
def _partition(key: bytes, partitions: int) -> int:
    """The index of a key's partition, as Kafka's default partitioner has it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
