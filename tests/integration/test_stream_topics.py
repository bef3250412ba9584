from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka.embedded_broker import free_port
from pipeline.kafka.security import admin_client
from pipeline.kafka.topics import ensure_topics
from tests.kafka_servers import stream_settings

pytestmark = pytest.mark.integration


def test_topics_are_made_once_with_equal_partitions(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=3)
    counts = ensure_topics(settings.kafka)
    assert counts[settings.kafka.requests_topic] == counts[settings.kafka.deltas_topic] == 3
    assert counts[settings.kafka.dead_letters_topic] == 1
    assert ensure_topics(settings.kafka.model_copy(update={"partitions": 9})) == counts, "what exists stays"


def test_more_deltas_partitions_than_requests_are_refused(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=2)
    other = stream_settings(any_broker, tmp_path, partitions=3)
    mixed = settings.kafka.model_copy(update={"deltas_topic": other.kafka.deltas_topic})
    with pytest.raises(ConfigError, match="must be equal"):
        ensure_topics(mixed)


def test_deltas_follow_a_requests_topic_that_others_have_made(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=3)
    fresh = settings.kafka.model_copy(update={"deltas_topic": f"{settings.kafka.deltas_topic}-new", "partitions": 12})
    assert ensure_topics(fresh)[fresh.deltas_topic] == 3


def test_deltas_get_the_partitions_that_requests_have_got(apache_kafka: str, tmp_path: Path) -> None:
    settings = stream_settings(apache_kafka, tmp_path, partitions=2)
    with admin_client(settings.kafka, "test") as admin:
        admin.create_partitions({settings.kafka.requests_topic: 5})
        admin.wait_for_topics([settings.kafka.requests_topic])
    with pytest.raises(ConfigError, match="add partitions to the deltas topic"):
        ensure_topics(settings.kafka.model_copy(update={"create_topics": False}))
    assert ensure_topics(settings.kafka)[settings.kafka.deltas_topic] == 5


def test_a_command_needs_only_its_own_topics(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=1)
    fresh = settings.kafka.model_copy(update={"calendar_topic": f"c-{settings.kafka.requests_topic}"})
    assert ensure_topics(fresh, only=[fresh.calendar_topic]) == {fresh.calendar_topic: 1}


def test_the_cluster_chooses_the_replicas(any_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(any_broker, tmp_path, partitions=1)
    fresh = settings.kafka.model_copy(
        update={"calendar_topic": f"r-{settings.kafka.requests_topic}", "replication_factor": -1}
    )
    assert ensure_topics(fresh, only=[fresh.calendar_topic]) == {fresh.calendar_topic: 1}


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
    from pipeline.config.settings import KafkaSettings

    with pytest.raises(ServerUnavailable, match="no Kafka broker"):
        ensure_topics(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"), timeout_seconds=1.0)
