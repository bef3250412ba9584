from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.clock import ScaledClock
from pipeline.config.settings import KafkaSettings, Settings
from pipeline.demo.actuator import FleetActuator
from pipeline.demo.emit import emit
from pipeline.demo.scenario import scenario
from pipeline.errors import InputError, ServerUnavailable
from pipeline.kafka.embedded_broker import EmbeddedBroker, find_binary
from pipeline.replay import follow, to_kafka
from pipeline.replay.producer import BatchProducer
from pipeline.replay.to_kafka import replay_trace
from pipeline.replay.trace import Trace
from tests.waiting import eventually, scaled

START = 1_700_000_000.0


class Recorder:
    """Stands in for the producer and notes when each record was handed over."""

    sent: list

    def __init__(self, bootstrap):
        type(self).sent = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def add(self, topic, key, value, timestamp_ms):
        self.sent.append((time.monotonic(), topic, key, value, timestamp_ms))

    async def push(self):
        pass

    async def flush(self):
        pass


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{START + 0.5 * i},{100 + i},1" for i in range(41)]
    path.write_text("timestamp,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return Trace.open(path)


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(to_kafka, "BatchProducer", Recorder)
    Recorder.sent = []
    return Recorder


def settings(**kafka):
    return Settings(kafka=KafkaSettings(create_topics=False, **kafka))


def test_records_carry_key_topic_and_completion(trace, recorder):
    totals = asyncio.run(replay_trace(settings(requests_topic="r"), trace, "m", "p"))
    assert len(recorder.sent) == totals.events == 41
    assert totals.input_tokens == sum(range(100, 141))
    assert totals.output_tokens == 41
    for _, topic, key, value, timestamp_ms in recorder.sent:
        event = msgspec.json.decode(value)
        assert (topic, key) == ("r", b"m|p")
        assert timestamp_ms == int(event["completed_at"] * 1000)
    stamps = [r[4] for r in recorder.sent]
    assert stamps == sorted(stamps)


def test_speed_squeezes_the_sending_and_not_the_event_times(trace, recorder):
    began = time.monotonic()  # not when the first was handed over, which a busy machine delays
    totals = asyncio.run(replay_trace(settings(), trace, "m", "p", speed=40.0))
    assert recorder.sent[-1][0] - began < scaled(10.0), "the 20 s of event time squeezed into half a second"
    assert totals.last_arrived_at - totals.first_arrived_at == pytest.approx(20.0)
    for at, _, _, _, timestamp_ms in recorder.sent:
        due = (timestamp_ms - recorder.sent[0][4]) / 1000 / 40.0
        assert at - began >= due - 0.01


def test_stop_ends_a_slow_replay_at_once(trace, recorder):
    async def run():
        stop = asyncio.Event()
        replay = asyncio.create_task(replay_trace(settings(), trace, "m", "p", speed=0.01, stop=stop))
        await eventually(lambda: recorder.sent, 20, "the first record", poll_seconds=0.01)
        stop.set()
        return await replay

    totals = asyncio.run(run())
    assert totals.events == 1, "the next one would be due after most of a minute"


class Follower:
    """Stands in for the pipeline: closes the windows of what was sent when asked to look, ``delay`` looks later."""

    delay = 3

    def __init__(self, kafka, topic, handle):
        self._handle = handle
        self._task = None

    async def __aenter__(self):
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _work(self):
        while True:
            await asyncio.sleep(0.02 * self.delay)
            if Recorder.sent:
                newest = msgspec.json.decode(Recorder.sent[-1][3])["arrived_at"]
                closed = (newest - 60.0) // 60 * 60
                self._handle(
                    json.dumps({"model": "m", "pool": "p", "start": closed - 60, "grain_seconds": 60}).encode()
                )


@pytest.fixture
def long_trace(tmp_path):
    """An event per ten seconds for an hour, silence for five hours, and an event per ten seconds for half an hour."""
    path = tmp_path / "long.csv"
    times = [START + 10.0 * i for i in range(360)] + [START + 6 * 3600 + 10.0 * i for i in range(180)]
    path.write_text("timestamp,prompt_tokens,output_tokens\n" + "".join(f"{at},10,1\n" for at in times))
    return Trace.open(path)


@pytest.mark.slow
def test_at_full_speed_nothing_is_sent_far_ahead_of_the_windows_that_are_closed(long_trace, recorder, monkeypatch):
    ahead = []

    class Watching(Follower):
        def __init__(self, kafka, topic, handle):
            def note(value):
                record = json.loads(value)
                sent = msgspec.json.decode(Recorder.sent[-1][3])["arrived_at"]
                ahead.append(sent - record["start"] - 60)
                handle(value)

            super().__init__(kafka, topic, note)

    monkeypatch.setattr(to_kafka, "TopicFollower", Watching)
    totals = asyncio.run(replay_trace(settings(), long_trace, "m", "p", speed=None))
    assert totals.events == 540, "the gap of five hours holds nothing up"
    assert len(ahead) >= 10, "it waited for the pipeline many times"
    assert max(ahead) <= 300.0, "sent no further ahead than advice is valid for"


def test_without_a_pipeline_a_replay_at_full_speed_is_not_held_up(long_trace, recorder, monkeypatch):
    class Nobody(Follower):
        async def _work(self):
            pass

    monkeypatch.setattr(to_kafka, "TopicFollower", Nobody)
    monkeypatch.setattr(follow, "NEVER_CAME_SECONDS", 0.2)
    assert asyncio.run(replay_trace(settings(), long_trace, "m", "p", speed=None)).events == 540


@pytest.mark.parametrize("arguments", [{"speed": -1.0}, {"speed": float("nan")}, {"limit": 0}])
def test_impossible_arguments_are_refused(trace, arguments):
    with pytest.raises(InputError):
        asyncio.run(replay_trace(settings(), trace, "m", "p", **arguments))


def test_a_missing_broker_is_an_error_of_ours(trace):
    with pytest.raises(ServerUnavailable, match=r"no Kafka at 127\.0\.0\.1:1"):
        asyncio.run(replay_trace(settings(bootstrap="127.0.0.1:1"), trace, "m", "p"))


@pytest.fixture(scope="module")
def bootstrap():
    try:
        find_binary()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with EmbeddedBroker(start_timeout_seconds=scaled(20.0)) as broker:
        yield broker.bootstrap


async def read_all(bootstrap, topic, partitions):
    """All records of a topic, per partition."""
    slots = [TopicPartition(topic, p) for p in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(slots)
        ends = await consumer.end_offsets(slots)
        found = {slot.partition: [] for slot in slots}
        for slot in slots:
            while ends[slot] and await consumer.position(slot) < ends[slot]:
                for got, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[got.partition] += records
        return found
    finally:
        await consumer.stop()


@pytest.mark.integration
def test_a_replay_arrives_whole_and_in_order(bootstrap, trace):
    kafka = KafkaSettings(bootstrap=bootstrap, partitions=3, requests_topic="replayed", deltas_topic="replayed-deltas")

    async def run():
        await replay_trace(Settings(kafka=kafka), trace, "m", "a")
        await replay_trace(Settings(kafka=kafka), trace, "m", "b")
        return await read_all(bootstrap, "replayed", 3)

    found = asyncio.run(run())
    records = [r for partition in found.values() for r in partition]
    assert len(records) == 82
    for key in (b"m|a", b"m|b"):
        homes = [p for p, partition in found.items() if any(r.key == key for r in partition)]
        assert len(homes) == 1
        stamps = [r.timestamp for r in found[homes[0]] if r.key == key]
        assert len(stamps) == 41
        assert stamps == sorted(stamps)
    assert len({msgspec.json.decode(r.value)["event_id"] for r in records}) == 82


@pytest.mark.integration
def test_batches_of_many_sizes_arrive_whole(bootstrap):
    async def run():
        values = [bytes([65 + i % 26]) * (1 + 37 * i % 60_000) for i in range(300)]
        async with BatchProducer(KafkaSettings(bootstrap=bootstrap)) as producer:
            for i, value in enumerate(values):
                await producer.add("replayed", f"k{i % 5}".encode(), value, 1_700_000_000_000 + i)
        found = await read_all(bootstrap, "replayed", 3)
        got = [r.value for p in found.values() for r in p if r.key.startswith(b"k")]
        return sorted(got) == sorted(values), producer.sent_records

    assert asyncio.run(run()) == (True, 300)


@pytest.mark.integration
def test_the_demo_emits_what_it_says_it_emitted(bootstrap):
    kafka = KafkaSettings(
        bootstrap=bootstrap,
        partitions=2,
        requests_topic="demo",
        deltas_topic="demo-deltas",
        replicas_topic="demo-replicas",
        recommendations_topic="demo-recommendations",
    )
    fleet = scenario("demo", 1_795_000_020.0)

    async def run():
        clock = ScaledClock(fleet.live_start, time.time(), 120.0)
        totals = await emit(kafka, fleet, clock, FleetActuator(fleet), end=fleet.live_start + 180)
        return totals, await read_all(bootstrap, "demo", 2), await read_all(bootstrap, "demo-replicas", 1)

    totals, found, replicas = asyncio.run(run())
    events = [msgspec.json.decode(r.value) for p in found.values() for r in p]
    assert totals.events == len(events) > 3_000
    assert sum(e["input_tokens"] for e in events) == totals.input_tokens
    assert sum(e["output_tokens"] for e in events) == totals.output_tokens
    assert sum(totals.requests_by_pool.values()) == totals.events
    for partition in found.values():
        stamps = [r.timestamp for r in partition]
        assert stamps == sorted(stamps)
    status = [msgspec.json.decode(r.value) for r in replicas[0]]
    assert {s["at"] for s in status} >= {fleet.live_start, fleet.live_start + 60, fleet.live_start + 120}
    assert all(s["schema"] == "tokentide.replica.status.v1" and s["ready"] >= 1 for s in status)
    first, *_, last = sorted(status, key=lambda s: s["at"])
    assert (first["requests_total"], first["running_requests"]) == (0, 0)
    assert sum(s["requests_total"] for s in status if s["at"] == last["at"]) == totals.events
