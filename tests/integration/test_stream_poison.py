"""Everything hostile that a requests topic can hold, through aggregator and controller into the store, exactly."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from pipeline.clock import WallClock
from pipeline.config.settings import PoolSettings, Settings
from pipeline.engine.advisor import Advisor
from pipeline.publish.state import LiveState
from pipeline.store.store import Store
from pipeline.stream.aggregator.aggregator import aggregator_app
from pipeline.stream.controller.app import controller_app
from pipeline.testing import Oracle, request_event
from tests.kafka_servers import consume, produce, stream_settings
from tests.waiting import eventually

pytestmark = pytest.mark.integration

PARTITIONS = 2
EVENTS = 6_000


def hostile(oracle: Oracle, now: float) -> list[tuple[int, bytes | None]]:
    """Good events with every kind of bad record between them; good ones follow the last bad one."""
    start = now - 500
    bad: list[tuple[bytes | None, str]] = [
        (None, "empty"),
        (b"", "empty"),
        (b'{"event_id":', "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b'{"a":1},{"b":2}', "malformed"),
        (b'"' + b"x" * 5_000_000 + b'"', "too_large"),
    ]
    for name, reason, fields in [
        ("negative", "negative", {"input_tokens": -1}),
        ("1970", "too_old", {"arrived_at": 0.0}),
        ("2090", "from_future", {"arrived_at": 3_800_000_000.0}),
        ("status", "unknown_status", {"status": "teapot"}),
        ("type", "wrong_type", {"input_tokens": "many"}),
        ("huge", "implausible", {"output_tokens": 10**9}),
    ]:
        event = request_event(name, start)
        event.update(fields)
        bad.append((json.dumps(event).encode(), reason))
    nan = (
        b'{"event_id":"n","model":"m","status":"ok","input_tokens":1,"output_tokens":1,"arrived_at":1,"e2e_seconds":%s}'
    )
    bad += [(nan % b"NaN", "not_finite"), (nan % b"1e999", "")]
    records: list[tuple[int, bytes | None]] = []
    for i in range(EVENTS):
        at = start + i * 0.07
        model = "unknown/model" if i % 97 == 0 else f"m{i % 3}"
        records.append((i % PARTITIONS, oracle.event(request_event(f"e{i}", at, model=model, input_tokens=i))))
        if i % 500 == 7:  # a producer's retry
            records.append((i % PARTITIONS, oracle.event(request_event(f"e{i}", at, model=model, input_tokens=i))))
        if i % 300 == 11 and bad:
            value, reason = bad.pop(0)
            records.append((i % PARTITIONS, oracle.poison(value, reason)))
    assert not bad
    return records


async def both(settings: Settings, store: Store) -> Any:
    clock = WallClock()
    live = LiveState(clock, settings.pools, settings.config_hash())
    control = controller_app(settings, clock, store, Advisor(settings), live, settings.kafka.partitions)
    aggregate = aggregator_app(settings, clock)
    for app in (control, aggregate):
        app.finalize()
    await asyncio.gather(control.start(), aggregate.start())
    return control, aggregate, live


def test_poison_becomes_dead_letters_and_nothing_else_changes(any_broker: str, tmp_path: Path) -> None:
    async def run() -> None:
        settings = stream_settings(any_broker, tmp_path, PARTITIONS, stream={"max_batch_records": 500})
        known = [PoolSettings(model=f"m{i}", profile="llama-3.1-8b", accelerator="H100-SXM") for i in range(3)]
        settings = settings.model_copy(update={"pools": tuple(known)})
        oracle = Oracle()
        records = hostile(oracle, time.time())
        # Which word a number beyond every float gets is the decoder's business; that it is refused is not.
        unnamed = oracle.dead_letters.pop("")
        await produce(any_broker, settings.kafka.requests_topic, records)
        store = Store.open(settings.store.path, settings.store, settings.windows)
        control, aggregate, live = await both(settings, store)
        try:
            seen = lambda: live.health().records  # noqa: E731
            await eventually(lambda: seen() == oracle.records, 60, f"{oracle.records} records in the ledger")
            await eventually(lambda: live.health().ready, 20, "readiness")
            await eventually(lambda: bool(store.last_closed()), 20, "a closed window")
            query = "SELECT sum(requests) FROM closed_windows WHERE model = 'unknown/model'"
            unknown = lambda: store.cursor().execute(query).fetchone()[0] or 0  # noqa: E731
            # Health is brought up to date every two seconds, and windows go on closing.
            await eventually(
                lambda: live.health().unknown_model_events == unknown() > 0, 20, "unknown models in the health"
            )
            async with ClientSession() as session:

                async def ready() -> bool:
                    async with session.get(f"http://127.0.0.1:{control.http.port}/readyz") as answer:
                        return answer.status == 200

                await eventually(ready, 20, "readiness over HTTP")
                async with session.get(f"http://127.0.0.1:{control.http.port}/metrics") as answer:
                    assert "tokentide_events_unknown_model_total" in await answer.text()
        finally:
            await aggregate.stop()
            await control.stop()
        advised = {view.key.model for view in live.snapshot().pools if view.recommendation is not None}
        assert advised <= {"m0", "m1", "m2"}
        reasons = store.dead_letter_reasons()
        extra = {reason: n - oracle.dead_letters[reason] for reason, n in reasons.items()}
        assert sum(extra.values()) == unnamed
        oracle.dead_letters.update({reason: n for reason, n in extra.items() if n})
        assert oracle.differences(store) == []
        store.close()

        letters = await consume(any_broker, settings.kafka.dead_letters_topic)
        assert len(letters) == oracle.dead_letters.total()
        headers = [dict(letter.headers) for letter in letters]
        assert all(
            {"dlq.topic", "dlq.partition", "dlq.offset", "dlq.reason", "dlq.detail"} <= h.keys() for h in headers
        )
        big = next(i for i, h in enumerate(headers) if h["dlq.reason"] == b"too_large")
        assert headers[big]["dlq.size_bytes"] == b"5000002"
        assert len(letters[big].value) == settings.stream.dead_letter_bytes
        windows = await consume(any_broker, settings.kafka.windows_topic)
        assert windows, "closed windows are published"
        assert {w.key for w in windows} >= {b"m0|default", b"m1|default", b"m2|default"}

    asyncio.run(run())
