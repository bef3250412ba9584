from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from pipeline.demo.fleet import events, history
from pipeline.demo.router_count import RouterCount
from pipeline.demo.scenario import scenario
from pipeline.demo.service import START_UP_SECONDS, FleetSimulator, PlannedReplicas
from pipeline.engine.start_ups import StartUps
from pipeline.errors import InputError
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.validation import EventLimits
from pipeline.windows.fold import fold
from pipeline.windows.types import MEASURES, PoolKey

LIVE = 1_795_000_020.0


@pytest.fixture(scope="module")
def demo():
    return scenario("demo", LIVE)


class Fixed:
    """The same number of replicas always."""

    def __init__(self, replicas):
        self.replicas = replicas

    def ready(self, pool, time):
        return self.replicas


def cells(keys, rows):
    return {
        (window, keys[key]): [*(column[i] for column in rows.measures), rows.max_completed_ms[i]]
        for i, (window, key) in enumerate(zip(rows.window, rows.key, strict=True))
    }


def histogram_cells(keys, rows, histograms):
    return {
        (rows.window[row], keys[rows.key[row]], metric, bucket): n
        for row, metric, bucket, n in zip(
            histograms.row, histograms.metric, histograms.bucket, histograms.n, strict=True
        )
    }


def test_events_come_in_order_of_completion_and_every_request_once(demo):
    chunks = list(events(demo, LIVE, LIVE + 600))
    flat = [item for chunk in chunks for item in chunk]
    completed = [at for at, _ in flat]
    assert completed == sorted(completed)
    assert len({event.event_id for _, event in flat}) == len(flat)
    assert all(LIVE <= event.arrived_at < LIVE + 600 for _, event in flat)
    assert all(event.completed_at == at for at, event in flat)


def test_chunks_end_with_their_block(demo):
    for number, chunk in enumerate(events(demo, LIVE, LIVE + 300)):
        assert all(LIVE + 60 * number <= at < LIVE + 60 * (number + 1) for at, _ in chunk)


def test_the_router_counts_what_has_come_and_what_is_in_flight(demo):
    start = LIVE + 38 * 60  # one replica too few: requests wait
    router, seen, everything = RouterCount(), [], []
    for number, chunk in enumerate(events(demo, start, start + 300, Fixed(2), router)):
        everything += [event for _, event in chunk]
        for into in (15, 30, 45, 60) if number < 5 else ():
            at = start + 60 * number + into
            seen.append((at, {spec.key: router.told(spec.key, at) for spec in demo.pools}))
    for at, told in seen:
        for key, counts in told.items():
            mine = [event for event in everything if (event.model, event.pool) == key]
            come = [event for event in mine if event.arrived_at <= at]
            assert counts["requests_total"] == len(come)
            assert counts["running_requests"] + counts["queued_requests"] == sum(e.completed_at > at for e in come)
            assert counts["queued_requests"] == sum(e.arrived_at + (e.queue_seconds or 0) > at for e in come)
    assert sum(counts["queued_requests"] for _, told in seen for counts in told.values()) > 0
    assert RouterCount().told(demo.pools[0].key, start) == dict.fromkeys(
        ("requests_total", "running_requests", "queued_requests"), 0
    )


def test_the_pipeline_accepts_every_event(demo):
    flat = [item for chunk in events(demo, LIVE + 38 * 60, LIVE + 43 * 60, Fixed(2)) for item in chunk]
    values = [msgspec.json.encode(event) for _, event in flat]
    columns, rejections, _ = decode_batch(
        values, [int(at * 1000) for at, _ in flat], 4e9, EventLimits(1 << 20, 7 * 86_400.0, 60.0)
    )
    assert rejections == []
    assert len(columns) == len(flat)
    assert {event.status for _, event in flat} >= {"ok", "rejected", "cancelled"}


@pytest.mark.slow
def test_history_equals_the_same_requests_sent_as_events(demo):
    start, end = LIVE - 900, LIVE
    flat = [item for chunk in events(demo, start, end) for item in chunk]
    columns, _, _ = decode_batch(
        [msgspec.json.encode(event) for _, event in flat],
        [int(at * 1000) for at, _ in flat],
        4e9,
        EventLimits(1 << 20, 7 * 86_400.0, 60.0),
    )
    keys, rows, histograms = fold(columns)
    past: dict = {}
    past_histograms: dict = {}
    for chunk in history(demo, start, end, chunk_seconds=300):
        past |= cells(chunk.keys, chunk.rows)
        past_histograms |= histogram_cells(chunk.keys, chunk.rows, chunk.histograms)
    assert past == cells(keys, rows)
    assert past_histograms == histogram_cells(keys, rows, histograms)


def test_the_same_minute_holds_the_same_arrivals_wherever_a_run_begins(demo):
    def minute(start):
        return [
            (event.event_id, event.arrived_at, event.input_tokens)
            for chunk in events(demo, start, LIVE + 180)
            for _, event in chunk
            if event.arrived_at >= LIVE + 120
        ]

    assert sorted(minute(LIVE)) == sorted(minute(LIVE + 120))


def test_two_runs_are_equal(demo):
    def run():
        return [msgspec.json.encode(event) for chunk in events(demo, LIVE, LIVE + 120) for _, event in chunk]

    assert run() == run()


def test_history_and_events_share_no_request_and_miss_none(demo):
    boundary = LIVE
    before = sum(sum(c.rows.measures[0]) for c in history(demo, boundary - 300, boundary))
    after = sum(len(c) for c in events(demo, boundary, boundary + 300))
    both = sum(sum(c.rows.measures[0]) for c in history(demo, boundary - 300, boundary + 300))
    assert before + after == both


def test_steps_have_every_pool_and_the_replicas_that_served(demo):
    chunks = list(history(demo, LIVE - 600, LIVE, chunk_seconds=300))
    steps = [step for chunk in chunks for step in chunk.steps(60)]
    assert [step.as_of for step in steps] == [int(LIVE) - 600 + 60 * (i + 1) for i in range(10)]
    for step in steps:
        assert {w.key for w in step.windows} == {PoolKey(*p.key) for p in demo.pools}
        assert all(w.end == step.as_of and w.requests > 0 and w.current_replicas >= 1 for w in step.windows)
    requests = MEASURES.index("requests")
    assert sum(w.requests for s in steps for w in s.windows) == sum(sum(c.rows.measures[requests]) for c in chunks)


@pytest.mark.slow
def test_the_past_had_start_ups_of_the_length_that_live_replicas_take(demo):
    start_ups: dict[PoolKey, StartUps] = {}
    for chunk in history(demo, LIVE - 6 * 3_600, LIVE):
        for step in chunk.steps(60):
            for window in step.windows:
                start_ups.setdefault(window.key, StartUps()).learn(window)
    seen = [seconds for pool in start_ups.values() for seconds in pool.seconds]
    assert len(seen) >= 2
    assert set(seen) == {float(START_UP_SECONDS)}


def test_steps_refuse_a_grain_that_does_not_fit(demo):
    (chunk,) = history(demo, LIVE - 60, LIVE)
    with pytest.raises(InputError, match="whole windows"):
        chunk.steps(3_600)
    with pytest.raises(InputError, match="chunk_seconds"):
        next(history(demo, LIVE - 60, LIVE, chunk_seconds=90))


def serve(demo, replicas, minutes=8, start=LIVE + 42 * 60):
    simulator = FleetSimulator(demo, replicas)
    return [simulator.serve_block(int(start // 60) + i)[0] for i in range(minutes)]


def test_overload_queues_slows_and_rejects_and_more_replicas_heal_it(demo):
    starved, ample = serve(demo, Fixed(3)), serve(demo, Fixed(12))
    rejected = [sum(int((b.status == 3).sum()) for b in blocks) for blocks in (starved, ample)]
    assert rejected[0] > 1_000
    assert rejected[1] == 0
    tpot = [np.nanmedian(np.concatenate([b.tpot_seconds for b in blocks])) for blocks in (starved, ample)]
    assert tpot[0] > 1.3 * tpot[1]
    waits = [np.nanmax(np.concatenate([b.queue_seconds for b in blocks])) for blocks in (starved, ample)]
    assert 5.0 < waits[0] < 13.0
    assert waits[1] < 1.0


def test_without_replicas_everything_is_rejected(demo):
    (block,) = serve(demo, Fixed(0), minutes=1)
    assert len(block.status) > 0
    assert (block.status == 3).all()
    assert (block.output_tokens == 0).all()


def test_requests_are_internally_consistent(demo):
    for block in itertools.chain.from_iterable(
        FleetSimulator(demo, PlannedReplicas(demo)).serve_block(int(LIVE // 60) + i) for i in (0, 1)
    ):
        assert (np.diff(block.arrived_at) >= 0).all()
        assert (block.e2e_seconds > 0).all()
        assert (block.cached_input_tokens < block.input_tokens).all()
        served = ~np.isnan(block.ttft_seconds)
        assert (block.ttft_seconds[served] >= block.queue_seconds[served]).all()
        assert (block.e2e_seconds[served] >= block.ttft_seconds[served] - 1e-6).all()


def test_planned_replicas_keep_the_objectives_in_a_calm_hour(demo):
    blocks = serve(demo, PlannedReplicas(demo), minutes=20, start=LIVE)
    ttft = np.nanquantile(np.concatenate([b.ttft_seconds for b in blocks]), 0.95)
    tpot = np.nanquantile(np.concatenate([b.tpot_seconds for b in blocks]), 0.95)
    settings = demo.pools[0].settings
    assert ttft <= settings.ttft_seconds
    assert tpot <= settings.tpot_seconds * 1.1
