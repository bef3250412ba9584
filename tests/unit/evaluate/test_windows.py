from __future__ import annotations

import pytest

from pipeline.evaluate.metrics import FleetMetrics
from pipeline.evaluate.windows import WindowFeed
from sizing.simulate import Fleet
from tests.unit.evaluate.pools import POOL, SETTINGS, setup


@pytest.mark.slow
def test_windows_hold_what_had_ended_when_they_closed() -> None:
    made = setup()
    fleet = Fleet(made.resolved, made.requests, replicas=2, cold_start_seconds=60.0)
    metrics, feed = FleetMetrics(fleet), WindowFeed(SETTINGS, POOL, made.epoch)
    for number, close_at in enumerate((122.0, 182.0, 242.0)):
        fleet.advance(close_at - 2.5)
        metrics.refresh()
        feed.report(metrics)
        fleet.advance(close_at - 0.5)
        metrics.refresh()
        assert not feed.due(metrics.now_seconds)
        fleet.advance(close_at)
        metrics.refresh()
        assert feed.due(metrics.now_seconds)
        window = feed.close(metrics)
        arrival, table = made.requests.arrival_seconds, fleet.table
        delay = fleet.frontend_seconds()
        inside = [r for r in range(len(made.requests)) if 60 * number <= arrival[r] < 60 * (number + 1)]
        ended = [r for r in inside if table.finish[r] + delay[r] <= close_at]
        assert window.start == made.epoch + 60 * number
        assert window.requests == window.ok == len(ended) > 0
        assert window.input_tokens == sum(made.requests.input_tokens[ended].tolist())
        assert window.output_tokens == sum(made.requests.output_tokens[ended].tolist())
        assert window.current_replicas == window.ready_replicas == 2
        assert window.fleet is not None
        assert window.fleet.counted is not None, "the router counts"
        ttft = [table.first[r] + delay[r] - arrival[r] for r in ended]
        assert window.ttft_seconds == pytest.approx(sum(ttft) / len(ttft), rel=0.02)
    assert window.completeness == pytest.approx(1.0)


def test_lost_and_refused_requests_are_demand() -> None:
    made = setup()
    fleet = Fleet(made.resolved, made.requests, replicas=1)
    fleet.advance(60.0)
    fleet.scale_to(0)
    metrics = FleetMetrics(fleet)
    arrived = metrics.reported(0.0, 60.0)
    before = len(arrived.number)
    first = int(next(r for r in range(len(made.requests)) if r not in set(arrived.number.tolist())))
    fleet.table.failed[first] = 60.0
    metrics.refresh()
    lost = metrics.reported(0.0, 60.0)
    assert len(lost.number) == before + 1
    assert lost.failed.sum() == 1


def test_readings_are_of_the_newest_closed_window_and_of_the_reports_so_far() -> None:
    made = setup()
    fleet = Fleet(made.resolved, made.requests, replicas=2, cold_start_seconds=60.0)
    metrics, feed = FleetMetrics(fleet), WindowFeed(SETTINGS, POOL, made.epoch)
    nothing = feed.reading(0.0)
    assert (nothing.fleet, nothing.current_replicas, nothing.ready_replicas) == (None, None, None)
    for now in range(15, 136, 15):
        fleet.advance(float(now))
        metrics.refresh()
        feed.report(metrics)
        if feed.due(metrics.now_seconds):
            window = feed.close(metrics)
            assert window.fleet is not None
            assert window.fleet.reported_at == made.epoch + 120, "of the report at 135 it knows nothing"
    found = feed.reading(135.0)
    assert (found.key, found.current_replicas, found.ready_replicas) == ((POOL.model, POOL.pool), 2, 2)
    assert found.fleet is not None
    assert found.fleet.reported_at == made.epoch + 135
    assert found.fleet.counted is not None
    arrival = made.requests.arrival_seconds
    assert found.fleet.counted.after == int(((arrival >= 60) & (arrival < 135)).sum())
    assert found.fleet.counted.after_seconds == 75.0
    assert feed.reading(400_000.0).current_replicas is None, "too old to be believed"
