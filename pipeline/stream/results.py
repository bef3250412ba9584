"""Publishes what each step says to Kafka, in the shapes of ``schemas/``."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.advise.model import StepOutput
from pipeline.errors import ServerUnavailable
from pipeline.publish.json import to_json
from pipeline.settings import Settings
from pipeline.stream.app import new_producer

__all__ = ["ResultPublisher"]


class ResultPublisher:
    """Writes windows, forecasts, recommendations and alerts to their topics, keyed ``model|pool``; a resource.

    At least once: after a crash the last step is published again. Consumers tell by ``recommendation_id``, ``alert_id``
    or (key, time).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Any = None

    async def start(self) -> None:
        """Connect."""
        if self._settings.kafka.publish_results:
            self._producer = new_producer(self._settings, "results")
            await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, output: StepOutput) -> None:
        """Write one step and wait until the broker has it; nothing happens when publishing is switched off.

        Raises:
            ServerUnavailable: the broker refused or did not answer.
        """
        if self._producer is None:
            return
        kafka = self._settings.kafka
        records: list[tuple[str, str, Any]] = []
        records += [(kafka.windows_topic, _key(w.model, w.pool), w) for w in output.windows]
        records += [(kafka.forecasts_topic, _key(f.series.model, f.series.pool), f) for f in output.forecasts]
        records += [(kafka.recommendations_topic, _key(r.model, r.pool), r) for r in output.recommendations]
        records += [(kafka.alerts_topic, _key(a.model, a.pool), a) for a in output.alerts]
        try:
            pending = []
            for topic, key, noun in records:
                pending.append(await self._producer.send(topic, to_json(noun), key=key.encode("utf-8", "replace")))
            await asyncio.gather(*pending)
        except KafkaError as error:
            raise ServerUnavailable(f"results cannot be published: {error!r}") from error


def _key(model: str, pool: str) -> str:
    return f"{model}|{pool}"
