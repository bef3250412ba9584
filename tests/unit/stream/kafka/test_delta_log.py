"""Appending to the logs of several shards: what is noted when one of them refuses."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import CodecError, ConfigError, ServerUnavailable
from pipeline.events.validation import EventLimits
from pipeline.kafka.topics import DELTA_BYTES, check_delta_limits
from pipeline.stream.kafka.delta_log import DeltaLog, DeltaTooLarge
from pipeline.testing import request_event
from pipeline.windows.delta import decode
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import Chain, ShardChains

NOW = 1_700_000_000.0
TOPICS = ("deltas.0-of-2", "deltas.1-of-2")


class Producer:
    """Takes records up to a size per topic; a topic that is ``down`` answers nothing."""

    def __init__(self, limits: dict[str, int] | None = None, down: tuple[str, ...] = ()) -> None:
        self.limits, self.down = limits or {}, down
        self.logs: dict[str, list[bytes]] = {topic: [] for topic in TOPICS}

    async def send_and_wait(self, topic: str, value: bytes, partition: int) -> Any:
        if topic in self.down:
            raise KafkaConnectionError
        if len(value) > self.limits.get(topic, 1 << 30):
            raise MessageSizeTooLargeError
        self.logs[topic].append(value)
        return SimpleNamespace(offset=len(self.logs[topic]) - 1)


def delta(records: int = 40) -> Any:
    values = [json.dumps(request_event(f"e{i}", NOW, pool=f"p{i}")).encode() for i in range(records)]
    aggregator = PartitionAggregator("requests", 0, "a", EventLimits(), 0)
    return aggregator.fold(values, range(records), [-1] * records, 0, records, NOW + 5)[0]


def append(producer: Producer, chains: ShardChains) -> None:
    log = DeltaLog(KafkaSettings(bootstrap="nowhere:1"), TOPICS, producer)  # type: ignore[arg-type]
    asyncio.run(log.append(delta(), chains))


def fresh() -> ShardChains:
    return ShardChains([Chain(0, -1), Chain(0, -1)])


def test_every_shard_has_its_part() -> None:
    producer, chains = Producer(), fresh()
    append(producer, chains)
    assert (chains.position, chains.reached, chains[0], chains[1]) == (40, 40, Chain(40, 0), Chain(40, 0))
    parts = [decode(producer.logs[topic][0]) for topic in TOPICS]
    assert sum(part.events for part in parts) == 40


def test_a_refused_size_leaves_the_other_shard_where_it_got_to() -> None:
    producer, chains = Producer({TOPICS[1]: 100}), fresh()
    with pytest.raises(DeltaTooLarge, match=r"deltas\.1-of-2 refuses a delta of"):
        append(producer, chains)
    assert (chains.position, chains.reached, chains.cuts) == (0, 40, [40])
    producer.limits = {}
    append(producer, chains)  # only the shard that lacks it
    assert [len(producer.logs[topic]) for topic in TOPICS] == [1, 1]
    assert chains.position == 40


def test_what_cannot_be_mended_is_told_before_what_can() -> None:
    with pytest.raises(ServerUnavailable, match="cannot be written") as caught:
        append(Producer({TOPICS[0]: 100}, down=(TOPICS[1],)), fresh())
    assert not isinstance(caught.value, DeltaTooLarge)


def test_what_no_reader_would_take_is_not_written() -> None:
    broken = delta()
    broken.rows.window[0] += 1
    producer, chains = Producer(), fresh()
    log = DeltaLog(KafkaSettings(bootstrap="nowhere:1"), TOPICS, producer)  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="off the grid"):
        asyncio.run(log.append(broken, chains))
    assert sum(len(log) for log in producer.logs.values()) < 2
    assert chains.position == 0


class Admin:
    def __init__(self, limit: str | None) -> None:
        self._entries = {} if limit is None else {"max.message.bytes": {"value": limit}}

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        return {"topic": {resource.name: self._entries for resource in resources}}


def test_small_limits_are_told_and_tiny_ones_refused() -> None:
    assert check_delta_limits(Admin(str(DELTA_BYTES)), ["d"]) == []
    assert check_delta_limits(Admin(None), ["d"]) == [], "a broker that does not tell"
    (note,) = check_delta_limits(Admin("1048588"), ["d"])
    assert "1,048,588 bytes at most" in note
    with pytest.raises(ConfigError, match="at least 65,536"):
        check_delta_limits(Admin("1000"), ["d"])
