"""Makes the producers of the pipeline."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.config.settings import Settings
from pipeline.kafka.security import aiokafka_options
from pipeline.kafka.topics import DELTA_BYTES

__all__ = ["new_producer"]


def new_producer(settings: Settings, role: str, batch_bytes: int = 16 * 1024) -> Any:
    """Make a producer that waits for all replicas; the caller starts and stops it. ``batch_bytes``: of a full batch.

    It is not idempotent on purpose: an idempotent one can hang for ever after a restart of the broker, and what it
    would prevent (a record twice) is harmless by the rule of deltas.
    """
    return AIOKafkaProducer(
        **aiokafka_options(settings.kafka),
        client_id=f"tokentide-{role}",
        acks="all",
        enable_idempotence=False,
        max_request_size=DELTA_BYTES,
        max_batch_size=batch_bytes,
    )
