"""What a run has to be allowed to do, and what of it the brokers deny."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.config.settings import KafkaSettings
from pipeline.kafka.topics import needed_topics

__all__ = ["denied_operations", "needed_operations"]


def needed_operations(
    kafka: KafkaSettings, sources: Sequence[str] = (), inputs: Sequence[str] = ()
) -> dict[str, frozenset[str]]:
    """Operations on each topic of a run with both stages, by Kafka's names of them (DESCRIBE goes without saying)."""
    both = frozenset({"READ", "WRITE"})
    read, write = frozenset({"READ"}), frozenset({"WRITE"})
    events = sources or (kafka.requests_topic,)
    special = dict.fromkeys((*events, *inputs, kafka.replicas_topic, kafka.calendar_topic), read)
    special |= dict.fromkeys(kafka.deltas_topics(), both)
    return {topic: special.get(topic, write) for topic in needed_topics(kafka, sources, inputs)}


def denied_operations(
    admin: Any, kafka: KafkaSettings, sources: Sequence[str] = (), inputs: Sequence[str] = ()
) -> list[str]:
    """One text for each topic, and for each consumer group, on which the brokers deny something that a run needs.

    Brokers without an authoriser (and before Kafka 2.3) report nothing, which is no finding.
    """
    from kafka.errors import GroupAuthorizationFailedError, KafkaError

    needed = needed_operations(kafka, sources, inputs)
    found = []
    for topic in admin.describe_topics(list(needed)):
        allowed = topic.get("authorized_operations") if topic["error_code"] == 0 else None
        denied = sorted(needed[topic["name"]].difference(allowed)) if allowed else []
        if denied:
            found.append(f"{' and '.join(denied)} on topic {topic['name']}")
    for role in ("aggregate", "control"):
        group = f"{kafka.group_prefix}-{role}"
        try:
            admin.describe_groups([group])
        except GroupAuthorizationFailedError:
            found.append(f"READ on consumer group {group}")
        except (KafkaError, ValueError):
            continue  # a broker that cannot describe a group that does not exist yet
    return found
