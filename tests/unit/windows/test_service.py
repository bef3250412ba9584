"""Outcomes of requests, latency quantiles and servers of windows, against plain loops over events."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pipeline.events.columns import from_events
from pipeline.events.request_event import STATUSES, RequestEvent
from pipeline.testing.windows import closed_window
from pipeline.windows import histogram
from pipeline.windows.fold import fold
from pipeline.windows.latencies import latency_counts, with_latencies
from pipeline.windows.servers import server_buckets, server_count
from pipeline.windows.service import OUTCOMES, ServiceCounts, outcomes

NOW = 1_767_225_600.0
OWED = {("m", "p"): (1.0, 0.05), ("m", "first"): (1.0, None)}


def event(number: int = 0, **fields: Any) -> RequestEvent:
    values = {"event_id": str(number), "model": "m", "pool": "p", "status": "ok", "arrived_at": NOW, "e2e_seconds": 9.0}
    return RequestEvent(**(values | {"input_tokens": 10, "output_tokens": 100} | fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ttft_seconds": 1.0, "tpot_seconds": 0.05}, "met"),
        ({"ttft_seconds": 1.01, "tpot_seconds": 0.05}, "ttft_missed"),
        ({"ttft_seconds": 0.1, "tpot_seconds": 0.06}, "tpot_missed"),
        ({"ttft_seconds": 2.0, "tpot_seconds": 0.06}, "both_missed"),
        ({"tpot_seconds": 0.02}, "unknown"),
        ({"tpot_seconds": 0.06}, "tpot_missed"),
        ({"e2e_seconds": 0.9, "tpot_seconds": 0.009}, "met"),
        ({"output_tokens": 1, "ttft_seconds": 0.2}, "met"),
        ({"status": "error"}, "failed"),
        ({"status": "rejected"}, "failed"),
        ({"status": "timeout", "ttft_seconds": 0.1}, "timeout"),
        ({"status": "cancelled"}, None),
        ({"pool": "first", "ttft_seconds": 0.5, "tpot_seconds": 9.0}, "met"),
        ({"pool": "nobody's"}, None),
    ],
)
def test_the_outcome_of_a_request(fields: dict[str, Any], expected: str | None) -> None:
    (found,) = outcomes(from_events([event(**fields)]), OWED).tolist()
    assert found == (-1 if expected is None else OUTCOMES.index(expected))
    assert outcomes(from_events([event(**fields)]), {}).tolist() == [-1]


@pytest.mark.slow
def test_windows_say_how_their_requests_were_served() -> None:
    draws = random.Random(5)
    events = [
        event(
            i,
            pool=draws.choice(["p", "first", "nobody's"]),
            status=draws.choice(["ok", "ok", *STATUSES]),
            ttft_seconds=draws.choice([None, draws.lognormvariate(0, 1)]),
            tpot_seconds=draws.lognormvariate(-3, 0.5),
            queue_seconds=draws.random(),
            e2e_seconds=10 + draws.random(),
            server_id=None if i % 40 == 0 else f"vllm-{draws.randrange(20)}",
        )
        for i in range(3_000)
    ]
    counts = latency_counts([fold(from_events(events), OWED)], 60)
    for pool in ("p", "first", "nobody's"):
        mine = [e for e in events if e.pool == pool]
        window = with_latencies(closed_window(int(NOW), len(mine), ok=1), counts[int(NOW), "m", pool])
        told = window.service
        assert told is not None
        assert window.servers == 20
        expected = Counter(int(outcomes(from_events([e]), OWED)[0]) for e in mine)
        assert told.counts == (
            ServiceCounts(*(expected[i] for i in range(len(OUTCOMES)))) if pool in "pfirst" else None
        )
        for name, fact in (("queue_seconds", told.queue_seconds), ("e2e_seconds", told.e2e_seconds)):
            values = np.quantile([getattr(e, name) for e in mine], (0.5, 0.95, 0.99), method="lower")
            assert fact == pytest.approx(tuple(values), rel=0.01)
        served = [e.ttft_seconds for e in mine if e.status == "ok" and e.ttft_seconds is not None]
        assert told.ttft_seconds == pytest.approx(
            tuple(np.quantile(served, (0.5, 0.95, 0.99), method="lower")), rel=0.011
        )


@pytest.mark.parametrize("servers", [1, 8, 200, 2_000])
def test_servers_are_counted_in_few_buckets(servers: int) -> None:
    ids = from_events([event(i, server_id=f"pod-{i}.serving.local") for i in range(servers)]).server
    named = Counter(server_buckets(ids).tolist())
    assert all(histogram.MIN_BUCKET <= b <= histogram.MAX_BUCKET for b in named)
    assert server_count(named, servers) == pytest.approx(servers, rel=0.05)
