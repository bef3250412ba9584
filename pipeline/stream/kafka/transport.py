"""The folding transport: one Faust message per fetched batch of a partition.

Use it as ``faust.App(broker="kafkabatch://host:9092")`` with topics declared by
``pipeline.stream.kafka.batch.batch_topic``; other topics of the app stay one message per record. The scheme is an entry
point of the distribution (``faust.transports``) and is registered on import too, so that an uninstalled checkout works.
"""

from __future__ import annotations

import logging
from typing import Any

from faust.transport import drivers
from faust.transport.drivers import aiokafka as _driver

from pipeline.stream.kafka.consumer import BatchConsumer, PositionSource
from pipeline.stream.kafka.fetch import missing_names

__all__ = ["SCHEME", "Transport", "register"]

SCHEME = "kafkabatch"

_log = logging.getLogger(__name__)


class Transport(_driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with a batch consumer.

    ``batch_topics`` are the topics delivered in batches of about ``max_batch_records`` and at most ``max_batch_bytes``
    of values (or one record); ``position_source`` says where to start reading them (None: at the group's committed
    offsets). ``reads_columns`` is False when this aiokafka lacks the private names that reading in columns needs;
    batches are then folded from its records, more slowly.
    """

    Consumer = BatchConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_topics: set[str] = set()
        self.max_batch_records = 5_000
        self.max_batch_bytes = 8 * 1024 * 1024
        self.position_source: PositionSource | None = None
        missing = missing_names()
        self.reads_columns = not missing
        if missing:
            _log.warning("this aiokafka lacks %s: records are folded one by one, more slowly", ", ".join(missing))


def register() -> None:
    """Make the scheme known to Faust in this process (an installed distribution does it by its entry point)."""
    drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:{Transport.__qualname__}"


register()
