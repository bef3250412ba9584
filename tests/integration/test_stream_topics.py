from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka_servers import stream_settings

from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.stream.broker import free_port
from pipeline.stream.topics import ensure_topics

pytestmark = pytest.mark.integration


def test_topics_are_made_once_with_equal_partitions(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=3)
    counts = ensure_topics(settings.kafka)
    assert counts[settings.kafka.requests_topic] == counts[settings.kafka.deltas_topic] == 3
    assert counts[settings.kafka.dead_letters_topic] == 1
    assert ensure_topics(settings.kafka.model_copy(update={"partitions": 9})) == counts, "what exists stays"


def test_unequal_partitions_are_refused(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=3)
    other = stream_settings(any_broker, tmp_path, partitions=2)
    mixed = settings.kafka.model_copy(update={"deltas_topic": other.kafka.deltas_topic})
    with pytest.raises(ConfigError, match="must be equal"):
        ensure_topics(mixed)


def test_missing_topics_are_an_error_when_they_must_not_be_made(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=1)
    mixed = settings.kafka.model_copy(update={"alerts_topic": "no-such-topic", "create_topics": False})
    with pytest.raises(ConfigError, match="no-such-topic"):
        ensure_topics(mixed)


def test_kafka_itself_keeps_the_configuration(apache_kafka: str, tmp_path: Path) -> None:
    settings = stream_settings(apache_kafka, tmp_path, partitions=1)
    admin = KafkaAdminClient(bootstrap_servers=apache_kafka)
    try:
        found = str(admin.describe_configs([ConfigResource("TOPIC", settings.kafka.deltas_topic)]))
    finally:
        admin.close()
    assert "16777216" in found


def test_no_broker_is_told_plainly(tmp_path: Path) -> None:
    from pipeline.settings import KafkaSettings

    with pytest.raises(ServerUnavailable, match="no Kafka broker"):
        ensure_topics(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"), timeout_seconds=1.0)
