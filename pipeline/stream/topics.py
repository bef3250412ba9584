"""Creates the topics that the pipeline needs and refuses a cluster on which it cannot be exact."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.settings import KafkaSettings

__all__ = ["DELTA_BYTES", "TopicSpec", "check_delta_limits", "ensure_topics", "partition_counts", "topic_specs"]

#: Largest delta: a batch whose every event has a key of its own, with names as long as allowed, stays below it.
DELTA_BYTES = 16 * 1024 * 1024

#: A topic that takes less than this is refused: the delta of a single event with long names must fit.
LEAST_DELTA_BYTES = 64 * 1024

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: its name, its number of partitions and the configuration it is created with."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def topic_specs(kafka: KafkaSettings) -> list[TopicSpec]:
    """The topics of ``kafka`` in the order in which they are created; retention in milliseconds is part of ``config``.

    Deltas have as many partitions as requests, because the deltas of a partition are one chain. They are kept longer
    than requests: an aggregator learns from their tail where to go on.
    """
    large = str(DELTA_BYTES)
    keep = {"cleanup.policy": "delete"}
    latest = {"cleanup.policy": "compact"}
    return [
        TopicSpec(kafka.requests_topic, kafka.partitions, {**keep, "retention.ms": str(3 * _DAY_MS)}),
        *(
            TopicSpec(name, kafka.partitions, {**keep, "retention.ms": str(14 * _DAY_MS), "max.message.bytes": large})
            for name in kafka.deltas_topics()
        ),
        TopicSpec(kafka.dead_letters_topic, 1, {**keep, "retention.ms": str(14 * _DAY_MS)}),
        TopicSpec(kafka.windows_topic, 1, {**keep, "retention.ms": str(7 * _DAY_MS)}),
        TopicSpec(kafka.forecasts_topic, 1, {**keep, "retention.ms": str(2 * _DAY_MS)}),
        TopicSpec(kafka.recommendations_topic, 1, latest),
        TopicSpec(kafka.alerts_topic, 1, {**keep, "retention.ms": str(30 * _DAY_MS)}),
        TopicSpec(kafka.replicas_topic, 1, {**keep, "retention.ms": str(_DAY_MS)}),
        TopicSpec(kafka.calendar_topic, 1, latest),
    ]


def ensure_topics(kafka: KafkaSettings, timeout_seconds: float = 30.0) -> dict[str, int]:
    """Create what is missing (unless ``create_topics`` is off) and return the partitions of every topic.

    Raises:
        ServerUnavailable: no broker answers, or it refuses to create a topic.
        ConfigError: a topic is missing and must not be created, deltas and requests differ in partitions, or a topic of
            deltas takes tiny records only.
    """
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    specs = topic_specs(kafka)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=kafka.bootstrap,
            client_id="tokentide",
            bootstrap_timeout_ms=int(timeout_seconds * 1000),
            request_timeout_ms=max(10_000, int(timeout_seconds * 1000)),
        )
    except (KafkaError, OSError, ValueError) as error:
        raise ServerUnavailable(f"no Kafka broker on {kafka.bootstrap}: {error or type(error).__name__}") from error
    try:
        counts = partition_counts(admin)
        missing = [spec for spec in specs if spec.name not in counts]
        if missing and not kafka.create_topics:
            names = ", ".join(spec.name for spec in missing)
            raise ConfigError(f"topics {names} do not exist and kafka.create_topics is off")
        for spec in missing:
            wanted = {
                "num_partitions": spec.partitions,
                "replication_factor": kafka.replication_factor,
                "configs": spec.config,
            }
            with contextlib.suppress(TopicAlreadyExistsError):  # another process of ours was quicker
                admin.create_topics({spec.name: wanted}, wait_for_metadata=True)
        counts = partition_counts(admin)
        for note in check_delta_limits(admin, kafka.deltas_topics()):
            _log.warning("%s", note)
    except KafkaError as error:
        raise ServerUnavailable(f"{kafka.bootstrap} cannot provide the topics: {error}") from error
    finally:
        admin.close()
    requests = counts.get(kafka.requests_topic)
    for name in kafka.deltas_topics():
        if counts.get(name) != requests:
            raise ConfigError(
                f"{name} has {counts.get(name)} partitions and {kafka.requests_topic} has {requests}; they must be "
                "equal: recreate the deltas topic (and the store), or add partitions to it"
            )
    return {spec.name: counts[spec.name] for spec in specs if spec.name in counts}


def partition_counts(admin: Any) -> dict[str, int]:
    """Partitions per existing topic, as a ``kafka.KafkaAdminClient`` sees them."""
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}


def check_delta_limits(admin: Any, topics: list[str]) -> list[str]:
    """Return a note for every topic of deltas whose ``max.message.bytes`` is below ``DELTA_BYTES``.

    Aggregators then write smaller deltas whenever one is refused. A broker that does not tell the limit gets no note.

    Raises:
        ConfigError: the limit is below ``LEAST_DELTA_BYTES``.
    """
    notes = []
    for topic, limit in _message_limits(admin, topics).items():
        if limit < LEAST_DELTA_BYTES:
            raise ConfigError(
                f"{topic} takes records of {limit:,} bytes at most (max.message.bytes); deltas need at least "
                f"{LEAST_DELTA_BYTES:,}, and {DELTA_BYTES:,} to be written whole"
            )
        if limit < DELTA_BYTES:
            notes.append(
                f"{topic} takes records of {limit:,} bytes at most (max.message.bytes): larger deltas are cut; "
                f"{DELTA_BYTES:,} holds every delta"
            )
    return notes


def _message_limits(admin: Any, topics: list[str]) -> dict[str, int]:
    """``max.message.bytes`` of the topics of which the broker tells it."""
    from kafka.admin import ConfigResource

    described = admin.describe_configs([ConfigResource("TOPIC", topic) for topic in topics])
    found = {}
    for topic, entries in described.get("topic", {}).items():
        value = entries.get("max.message.bytes", {}).get("value")
        if value is not None:
            found[topic] = int(value)
    return found
