"""Creates the topics that the pipeline needs and refuses a cluster on which it cannot be exact."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka.security import admin_client

__all__ = [
    "DELTA_BYTES",
    "TopicSpec",
    "check_delta_limits",
    "described",
    "ensure_topics",
    "mismatch",
    "needed_topics",
    "topic_specs",
]

#: Largest delta: a batch whose every event has a key of its own, with names as long as allowed, stays below it.
DELTA_BYTES = 16 * 1024 * 1024

#: A topic that takes less than this is refused: the delta of a single event with long names must fit.
LEAST_DELTA_BYTES = 64 * 1024

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000

#: Error codes of Kafka's protocol.
_TOPIC_DENIED = 29
_CLUSTER_DENIED = 31
_TOPIC_EXISTS = 36
_INVALID_CONFIG = 40
_POLICY_VIOLATION = 44


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic: its name, its number of partitions and the configuration it is created with."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def topic_specs(kafka: KafkaSettings, sources: Sequence[str] = (), inputs: Sequence[str] = ()) -> list[TopicSpec]:
    """The topics of ``kafka`` in the order in which they are created; retention in milliseconds is part of ``config``.

    ``sources`` are the topics that events come from; none: the requests topic. ``inputs`` are those of external
    forecasts and signals.

    Deltas have as many partitions as requests, because the deltas of a partition are one chain. They are kept longer
    than requests: an aggregator learns from their tail where to go on.
    """
    large = str(DELTA_BYTES)
    keep = {"cleanup.policy": "delete"}
    latest = {"cleanup.policy": "compact"}
    return [
        *(
            TopicSpec(name, kafka.partitions, {**keep, "retention.ms": str(3 * _DAY_MS)})
            for name in sources or (kafka.requests_topic,)
        ),
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
        *(TopicSpec(name, 1, {**keep, "retention.ms": str(7 * _DAY_MS)}) for name in inputs),
    ]


def needed_topics(kafka: KafkaSettings, sources: Sequence[str] = (), inputs: Sequence[str] = ()) -> list[str]:
    """The topics that a run reads or writes: all of them, less the results where they are not published."""
    results = {kafka.windows_topic, kafka.forecasts_topic, kafka.recommendations_topic, kafka.alerts_topic}
    specs = topic_specs(kafka, sources, inputs)
    return [spec.name for spec in specs if kafka.publish_results or spec.name not in results]


def ensure_topics(
    kafka: KafkaSettings,
    timeout_seconds: float = 30.0,
    only: Sequence[str] | None = None,
    sources: Sequence[str] = (),
    inputs: Sequence[str] = (),
) -> dict[str, int]:
    """Create what is missing (unless ``create_topics`` is off) and return the partitions of every topic.

    The deltas topics follow the requests topic: they get as many partitions when they are created, and when it has
    more than they have.
    ``only`` names the topics that a command uses; None: all that a run needs. ``sources`` are the topics that events
    come from (none: the requests topic); of several, the one with most partitions is followed. ``inputs`` are those of
    external forecasts and signals.

    Raises:
        ServerUnavailable: no broker answers, it refuses this client, or it does not create a topic.
        ConfigError: a topic is missing and cannot be created, an ACL denies what is needed, the deltas have more
            partitions than the requests, or their topic takes tiny records only.
    """
    wanted = needed_topics(kafka, sources, inputs) if only is None else list(only)
    deltas = [name for name in kafka.deltas_topics() if name in wanted]
    with admin_client(kafka, "topics", timeout_seconds) as admin:
        counts = described(admin, kafka, wanted)
        missing = [
            spec for spec in topic_specs(kafka, sources, inputs) if spec.name in wanted and spec.name not in counts
        ]
        if missing and not kafka.create_topics:
            names = ", ".join(spec.name for spec in missing)
            raise ConfigError(f"topics {names} do not exist and kafka.create_topics is off")
        for spec in missing:
            partitions = _most(counts, kafka, sources, spec.partitions) if spec.name in deltas else spec.partitions
            _create(admin, kafka, spec, partitions)
            counts |= described(admin, kafka, [spec.name])
        for name in deltas:
            counts[name] = _follow(admin, kafka, name, counts[name], _most(counts, kafka, sources, 0))
        if deltas:
            for note in check_delta_limits(admin, deltas):
                _log.warning("%s", note)
    return counts


def _most(counts: Mapping[str, int], kafka: KafkaSettings, sources: Sequence[str], otherwise: int) -> int:
    """The partitions of the topic of events that has most of them."""
    return max((counts[name] for name in sources or (kafka.requests_topic,) if name in counts), default=otherwise)


def described(admin: Any, kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, int]:
    """Partitions of those of ``topics`` that exist.

    Raises:
        ConfigError: an ACL hides one of them.
        ServerUnavailable: a topic that was just created is not known within a few seconds.
    """
    found = admin.describe_topics(list(topics))
    denied = [topic["name"] for topic in found if topic["error_code"] == _TOPIC_DENIED]
    if denied:
        raise ConfigError(_denied(kafka, "DESCRIBE", denied))
    return {topic["name"]: len(topic["partitions"]) for topic in found if topic["error_code"] == 0}


def mismatch(kafka: KafkaSettings, deltas_topic: str, deltas: int, requests: int) -> str:
    """Why ``deltas`` partitions do not fit ``requests`` partitions of the requests topic; empty: they do, or will.

    Fewer partitions are added when a run starts, if it may; more would be waited for in vain.
    """
    if deltas == requests or (deltas < requests and kafka.create_topics):
        return ""
    cure = "delete the deltas topic (and the store)" if deltas > requests else "add partitions to the deltas topic"
    return (
        f"{deltas_topic} has {deltas} partitions and {kafka.requests_topic} has {requests}; they must be equal: {cure}"
    )


def _create(admin: Any, kafka: KafkaSettings, spec: TopicSpec, partitions: int) -> None:
    """Create one topic; where the cluster's policy refuses large records, with its own limit."""
    for config in (spec.config, {name: value for name, value in spec.config.items() if name != "max.message.bytes"}):
        wanted = {"num_partitions": partitions, "replication_factor": kafka.replication_factor, "configs": config}
        (topic,) = admin.create_topics({spec.name: wanted}, raise_errors=False)["topics"]
        code = topic["error_code"]
        if code not in (_POLICY_VIOLATION, _INVALID_CONFIG):
            break
    if code in (0, _TOPIC_EXISTS):  # exists: another process of ours was quicker
        admin.wait_for_topics([spec.name])
        return
    if code in (_TOPIC_DENIED, _CLUSTER_DENIED):
        raise ConfigError(
            f"{spec.name} does not exist, and {_denied(kafka, 'CREATE', [spec.name])}; create it with {partitions} "
            f"partitions and {spec.config}, or grant CREATE"
        )
    reason = topic.get("error_message") or f"error {code}"
    raise ServerUnavailable(f"{kafka.bootstrap} does not create {spec.name}: {reason} (kafka.replication_factor?)")


def _follow(admin: Any, kafka: KafkaSettings, topic: str, deltas: int, requests: int) -> int:
    """Give a deltas topic as many partitions as the requests topic has; returns how many it has then.

    A new partition of deltas is empty, which says that nothing of its source partition is counted yet.
    """
    from kafka.errors import KafkaError

    if deltas < requests and kafka.create_topics:
        _log.warning("%s gets %d partitions (it has %d), as %s has", topic, requests, deltas, kafka.requests_topic)
        with contextlib.suppress(KafkaError):  # refused, or unknown to this broker: the count below says so
            admin.create_partitions({topic: requests})
            admin.wait_for_topics([topic])
        deltas = described(admin, kafka, [topic])[topic]
    problem = mismatch(kafka.model_copy(update={"create_topics": False}), topic, deltas, requests)
    if problem:
        raise ConfigError(problem)
    return deltas


def _denied(kafka: KafkaSettings, operation: str, topics: Sequence[str]) -> str:
    user = f"user {kafka.security.username!r}" if kafka.security.username else "this client"
    return f"an ACL denies {user} {operation} on {', '.join(topics)} (docs/kafka.md lists what is needed)"


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
    """``max.message.bytes`` of the topics whose configuration the broker shows to this client."""
    from kafka.admin import ConfigResource
    from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

    resources = [ConfigResource("TOPIC", topic) for topic in topics]  # naming the key drops Tansu's connection
    try:
        configs = admin.describe_configs(resources, config_filter="all")  # the cluster's default counts too
    except (ClusterAuthorizationFailedError, TopicAuthorizationFailedError):
        return {}  # no DESCRIBE_CONFIGS; a record that is too large is refused, and then cut
    found = {}
    for topic, entries in configs.get("topic", {}).items():
        value = entries.get("max.message.bytes", {}).get("value")
        if value is not None:
            found[topic] = int(value)
    return found
