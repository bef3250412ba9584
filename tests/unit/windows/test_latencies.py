"""Mean latencies of closed windows, against a plain loop over events."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from pipeline.events.batch_decoder import from_events
from pipeline.events.request_event import RequestEvent
from pipeline.testing.windows import closed_window
from pipeline.windows.fold import fold
from pipeline.windows.histogram import ZERO_BUCKET, bucket
from pipeline.windows.latencies import latency_counts, with_latencies

NOW = 1_767_225_600.0


def test_means_are_within_a_bucket_of_the_events() -> None:
    draws = random.Random(3)
    events = [
        RequestEvent(
            event_id=str(i),
            model=draws.choice("ab"),
            pool="p",
            input_tokens=100,
            output_tokens=50,
            status="ok",
            arrived_at=NOW + draws.random() * 120,
            e2e_seconds=5.0,
            ttft_seconds=draws.choice([None, draws.lognormvariate(-1, 1)]),
            tpot_seconds=draws.lognormvariate(-4, 0.3),
        )
        for i in range(500)
    ]
    told: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for event in events:
        if event.ttft_seconds is not None:
            told[int(event.arrived_at // 60 * 60), event.model].append(event.ttft_seconds)
    counts = latency_counts([fold(from_events(events))], 60)
    assert {(start, model) for start, model, _ in counts} == set(told)
    for (start, model), values in told.items():
        window = with_latencies(closed_window(start, len(values), model=model), counts[start, model, "p"])
        assert window.ttft_seconds == pytest.approx(sum(values) / len(values), rel=0.01)
        assert window.tpot_seconds is not None


@pytest.mark.parametrize(
    ("told", "expected"),
    [({}, None), ({ZERO_BUCKET: 4}, None), ({ZERO_BUCKET: 5}, 0.0), ({int(bucket(2.0)): 10}, 2.0)],
)
def test_a_minority_does_not_speak_for_a_window(told: dict[int, int], expected: float | None) -> None:
    window = with_latencies(closed_window(0, 10), {"ttft_seconds": told})
    assert window.ttft_seconds == (None if expected is None else pytest.approx(expected, rel=0.01))
    assert window.tpot_seconds is None


def test_a_window_without_requests_tells_nothing() -> None:
    assert with_latencies(closed_window(0, 0), {}).ttft_seconds is None
