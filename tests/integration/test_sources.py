"""Two topics of events in formats of their own, through one deltas topic into the store, exactly."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import WallClock
from pipeline.config.settings import Settings
from pipeline.engine.advisor import Advisor
from pipeline.kafka.tap import read_topic
from pipeline.kafka.topics import ensure_topics
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.controller.app import controller_app
from tests.kafka_servers import consume, produce, stream_settings
from tests.unit.events.codecs.test_golden import GOLDEN
from tests.waiting import eventually

pytestmark = pytest.mark.integration

PARTITIONS = 2
EACH = 200


def spans(i: int, now: float) -> bytes:
    """One request span and one that is none."""
    text = json.dumps(GOLDEN["otlp-vllm-llm-request"]["record"])
    begin, end = (str(int((now - at) * 1e9)) for at in (200, 198.498))
    text = text.replace("1767225600250000000", begin).replace("1767225601752000000", end)
    return text.replace("6" * 32, f"{i:032x}").encode()


def payload(i: int, now: float) -> bytes:
    record = GOLDEN["litellm-rate-limited"]["record"]
    times = {
        "startTime": now - 200 + i / 100,
        "endTime": now - 199 + i / 100,
        "completionStartTime": now - 199 + i / 100,
    }
    return json.dumps(record | times | {"litellm_call_id": f"call-{i}"}).encode()


async def started(app: Any) -> Any:
    app.finalize()
    await app.start()
    return app


def test_every_source_is_counted_exactly(embedded_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        plain = stream_settings(embedded_broker, tmp_path, PARTITIONS)
        topics = [plain.kafka.requests_topic, f"{plain.kafka.requests_topic}-spans"]
        sources = ({"topic": topics[0]}, {"topic": topics[1], "codec": "otlp_json"})
        stream = plain.stream.model_copy(update={"dead_letter_bytes": 0}).model_dump() | {"sources": sources}
        settings = Settings(**plain.model_dump(exclude={"stream"}), stream=stream)
        counts = ensure_topics(settings.kafka, sources=settings.source_topics())
        assert [counts[topic] for topic in topics] == [PARTITIONS, PARTITIONS]
        now = time.time()
        batches = {
            topics[0]: [payload(i, now) for i in range(EACH)] + [b'{"messages":"SECRET"}'],
            topics[1]: [spans(i, now) for i in range(EACH)]
            + [json.dumps(GOLDEN["otlp-no-requests"]["record"]).encode()],
        }
        store = Store.open(settings.store.path, settings.store, settings.windows)
        clock = WallClock()
        live = LiveState(clock, settings.pools, settings.config_hash())
        sizes = {topic: counts[topic] for topic in topics}
        control = await started(controller_app(settings, clock, store, Advisor(settings), live, PARTITIONS, sizes))
        aggregate = await started(aggregator_app(settings, clock))
        try:
            for part in (slice(0, EACH // 2), slice(EACH // 2, None)):
                for topic, values in batches.items():
                    records = [(i % PARTITIONS, value) for i, value in enumerate(values[part])]
                    await produce(embedded_broker, topic, records)
                wanted = sum(len(values[: part.stop]) for values in batches.values())
                recorded = lambda n=wanted: sum(row["records"] for row in store.ledger()) == n  # noqa: E731
                await eventually(recorded, 60, f"{wanted} records in the ledger")
                if part.stop is not None:
                    await aggregate.stop()
                    aggregate = await started(aggregator_app(settings, clock))
            await eventually(lambda: live.health().ready, 30, "readiness")
        finally:
            await aggregate.stop()
            await control.stop()
        ledger: dict[str, list[dict[str, int]]] = {topic: [] for topic in topics}
        for row in store.ledger():
            ledger[row["topic"]].append(row)
            assert row["records"] == row["ignored"] + row["dead_letters"] + row["event_records"]
        totals = {topic: [sum(row[n] for row in rows) for n in ("events", "ignored")] for topic, rows in ledger.items()}
        assert totals == {topics[0]: [EACH, 0], topics[1]: [EACH, 1]}
        assert store.totals()["requests"] == 2 * EACH
        assert store.event_notes()["codec"] == {"litellm": EACH, "otlp_json": EACH + 1}
        assert store.event_notes()["unknown"] == {"input_tokens": EACH, "output_tokens": EACH}
        store.close()
        (letter,) = await consume(embedded_broker, settings.kafka.dead_letters_topic)
        assert (letter.value, dict(letter.headers)["dlq.reason"]) == (None, b"unknown_format")

    asyncio.run(run())


def test_a_topic_is_tapped_without_moving_any_group(embedded_broker: str, tmp_path: Path) -> None:
    settings = stream_settings(embedded_broker, tmp_path, PARTITIONS)
    values = [f'{{"n":{i}}}'.encode() for i in range(6)]
    asyncio.run(produce(embedded_broker, settings.kafka.requests_topic, [(i % 2, v) for i, v in enumerate(values)]))
    found = read_topic(settings.kafka, settings.kafka.requests_topic, 4, 20.0, newest=False)
    assert len(found) == 4
    assert {record.value for record in found} <= set(values)
