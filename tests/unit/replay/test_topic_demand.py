"""Demand from a topic, over a consumer that serves records from memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.config.settings import Settings
from pipeline.errors import InputError, ServerUnavailable
from pipeline.forecast.types import Signal
from pipeline.replay import topic_demand
from pipeline.replay.topic_demand import read_topic

START = 1_790_000_000 // 300 * 300


def record(offset: int, at: float, pool: str = "chat", **more: Any) -> SimpleNamespace:
    fields = {
        "event_id": f"r-{at}-{pool}",
        "model": "m",
        "pool": pool,
        "arrived_at": at,
        "e2e_seconds": 2.0,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 10,
        "status": "ok",
    }
    value = msgspec.json.encode(fields | more)
    return SimpleNamespace(offset=offset, timestamp=int((at + 2) * 1000), value=value, headers=())


class Consumer:
    """Serves at most three records a fetch; offsets that nothing lies at are skipped, as after compaction."""

    def __init__(self, records: list[SimpleNamespace], end: int, by_time: int | None, stuck: bool = False) -> None:
        self.records, self.end, self.by_time, self.stuck = records, end, by_time, stuck
        self.at = 0
        self.served = 0

    async def offsets_for_times(self, asked: dict[Any, int]) -> dict[Any, Any]:
        (tp,) = asked
        return {tp: None if self.by_time is None else SimpleNamespace(offset=self.by_time)}

    def seek(self, _tp: Any, offset: int) -> None:
        self.at = offset

    async def position(self, _tp: Any) -> int:
        return self.at

    async def getmany(self, tp: Any, **_: Any) -> dict[Any, list[SimpleNamespace]]:
        if self.stuck:
            return {}
        found = [r for r in self.records if r.offset >= self.at][:3]
        self.at = found[-1].offset + 1 if found else self.end
        self.served += len(found)
        return {tp: found} if found else {}


def read(monkeypatch: pytest.MonkeyPatch, consumers: list[Consumer], **options: Any) -> Any:
    @asynccontextmanager
    async def reader(_kafka: Any, _topic: str, partition: int) -> AsyncIterator[tuple[Any, Any]]:
        yield consumers[partition], ("topic", partition)

    async def bounds(consumer: Consumer, _tp: Any) -> tuple[int, int]:
        return 0, consumer.end

    monkeypatch.setattr(topic_demand, "_partitions", lambda *_: range(len(consumers)))
    monkeypatch.setattr(topic_demand, "partition_reader", reader)
    monkeypatch.setattr(topic_demand, "log_bounds", bounds)
    options = {"start": START, "end": START + 900, "step_seconds": 300, **options}
    return asyncio.run(read_topic(Settings(), "topic", **options))


def test_partitions_add_up_and_an_id_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = record(5, START + 10.0)
    one = Consumer([record(0, START + 10.0), record(1, START + 310.0, "batch"), record(4, START - 5.0), twice], 9, 0)
    two = Consumer([record(0, START + 610.0), record(1, START + 899.5), record(2, START + 900.0)], 3, None)
    said: list[str] = []
    batch, chat = read(monkeypatch, [one, two], notice=said.append)
    assert (batch.name, batch.values.tolist()) == ("m/batch", [0.0, 1.0, 0.0])
    assert (chat.name, chat.values.tolist(), chat.rows) == ("m/chat", [1.0, 0.0, 2.0], 3)
    assert chat.start == START
    assert not said


def test_tokens_and_what_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = SimpleNamespace(offset=1, timestamp=int(START * 1000), value=b"no event", headers=())
    records = [record(0, START + 1.0), bad, SimpleNamespace(offset=2, timestamp=START * 1000, value=None, headers=())]
    said: list[str] = []
    (prefill,) = read(monkeypatch, [Consumer(records, 3, 0)], signal=Signal.PREFILL_TOKENS, notice=said.append)
    assert prefill.values.tolist() == [60.0, 0.0, 0.0]
    assert said == ["topic: 2 records are not request events and are left out"]
    (decode,) = read(monkeypatch, [Consumer(records, 3, 0)], signal=Signal.DECODE_TOKENS)
    assert decode.values.tolist() == [10.0, 0.0, 0.0]


def test_reading_begins_at_the_time_and_ends_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    late = [record(i, START + 10_000.0 + i) for i in range(20, 60)]
    consumer = Consumer([record(i, START - 9_000.0 + i) for i in range(15)] + [record(15, START + 5.0), *late], 60, 15)
    (series,) = read(monkeypatch, [consumer])
    assert series.values.tolist() == [1.0, 0.0, 0.0]
    assert consumer.served < 10


def test_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds no event of that"):
        read(monkeypatch, [Consumer([record(0, START + 1.0)], 1, 0)], pool="other")
    with pytest.raises(InputError, match="is not in request events"):
        read(monkeypatch, [], signal=Signal.KV_TOKENS)
    with pytest.raises(InputError, match="the range holds 0 windows"):
        read(monkeypatch, [], end=START + 10)
    stuck = Consumer([], 5, 0, stuck=True)
    with pytest.raises(ServerUnavailable, match=r"records 0\.\.4 do not arrive"):
        read(monkeypatch, [stuck])
