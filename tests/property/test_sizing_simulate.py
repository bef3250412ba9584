"""The simulator against a naive one that takes every step alone, and the laws that every outcome keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizing.replica.memory import resolve
from sizing.replica.step_time import StepModel
from sizing.simulate import Fleet, Frontend, Requests, Routing, simulate
from sizing.simulate.lane import Lane
from sizing.simulate.requests import LaneLimits, RequestTable
from sizing.types import Deployment

DENSE = StepModel(
    fixed_seconds=1e-4,
    dense_seconds=9e-4,
    dense_corner_tokens=90.0,
    expert_seconds=0.0,
    expert_corner_tokens=math.inf,
    expert_miss=1.0,
    expert_lanes=1,
    expert_spread=0.0,
    decode_seconds=2e-5,
    kv_seconds=1e-7,
    kv_window_seconds=0.0,
    window_tokens=0,
    prefill_seconds=1e-5,
    attention_seconds=1e-9,
)
SPARSE = replace(
    DENSE,
    expert_seconds=4e-3,
    expert_corner_tokens=400.0,
    expert_miss=0.9,
    expert_lanes=2,
    expert_spread=0.2,
    kv_window_seconds=3e-6,
    window_tokens=24,
)


class Sequence:
    def __init__(self, number: int, prompt: int, computed: int, output: int) -> None:
        self.number, self.prompt, self.skipped, self.output = number, prompt, prompt - computed, output
        self.emitted = 0
        self.stored = 0  # tokens in KV; a prompt being computed has its whole room reserved
        self.blocks = 0

    @property
    def total(self) -> int:
        return self.prompt + self.emitted


def naive(step: StepModel, limits: LaneLimits, table: RequestTable) -> tuple[list[float], list[float], list[int], int]:
    """One step at a time, one sequence at a time."""
    first, finish, preempted = (
        [math.nan] * len(table.arrival),
        [math.nan] * len(table.arrival),
        [0] * len(table.arrival),
    )
    waiting = [Sequence(i, *row) for i, row in enumerate(zip(table.prompt, table.computed, table.output, strict=True))]
    decoding: list[Sequence] = []
    partial: Sequence | None = None
    now, free, most = 0.0, limits.kv_blocks, 0
    while waiting or decoding or partial:
        if not decoding and partial is None:
            now = max(now, table.arrival[waiting[0].number])
        out = False
        while sum(1 for s in decoding if s.stored % 16 == 0) > free:
            victim = partial if partial is not None else decoding.pop()
            partial = None
            free += victim.blocks
            victim.blocks = victim.stored = 0
            preempted[victim.number] += 1
            waiting.insert(0, victim)
            out = True
        need = sum(1 for s in decoding if s.stored % 16 == 0)
        budget = limits.max_batched_tokens - len(decoding)
        done: list[Sequence] = []
        seconds, tokens = 0.0, 0
        while not out and budget > 0:
            if partial is None:
                if not waiting or len(decoding) + len(done) >= limits.max_num_seqs:
                    break
                head = waiting[0]
                blocks = -(-head.total // 16)
                if table.arrival[head.number] > now or blocks > free - need:
                    break
                partial = waiting.pop(0)
                partial.blocks, partial.stored = blocks, partial.skipped
                free -= blocks
            chunk = min(partial.total - partial.stored, budget)
            seconds += chunk * (step.prefill_seconds + step.attention_seconds * (partial.stored + chunk / 2))
            partial.stored += chunk
            budget -= chunk
            tokens += chunk
            if partial.stored == partial.total:
                done.append(partial)
                partial = None
        batch = len(decoding)
        seconds += step.base_seconds(batch + tokens) + batch * step.decode_seconds
        for s in decoding:
            seconds += step.kv_seconds * s.stored + step.kv_window_seconds * min(s.stored, step.window_tokens)
            if s.stored % 16 == 0:
                s.blocks += 1
                free -= 1
            s.stored += 1
        most = max(most, limits.kv_blocks - free)
        now += seconds
        for s in [*decoding, *done]:
            s.emitted += 1
            if s.emitted == 1:
                first[s.number] = now
            if s.emitted == s.output:
                finish[s.number] = now
                free += s.blocks
        decoding = [s for s in [*decoding, *done] if s.emitted < s.output]
    assert free == limits.kv_blocks
    return first, finish, preempted, most


@st.composite
def tables(draw: st.DrawFn) -> RequestTable:
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.floats(0.0, 0.2), min_size=count, max_size=count))
    prompt = draw(st.lists(st.integers(1, 200), min_size=count, max_size=count))
    cached = draw(st.lists(st.integers(0, 100), min_size=count, max_size=count))
    output = draw(st.lists(st.integers(1, 90), min_size=count, max_size=count))
    return RequestTable(
        np.cumsum(gaps).tolist(),
        prompt,
        [max(p - c, 1) for p, c in zip(prompt, cached, strict=True)],
        output,
    )


@settings(max_examples=150, deadline=None)
@given(
    tables(),
    st.sampled_from([DENSE, SPARSE]),
    st.builds(LaneLimits, st.integers(1, 12), st.integers(8, 300), st.integers(19, 60)),
)
def test_running_ahead_gives_what_single_steps_give(table: RequestTable, step: StepModel, limits: LaneLimits) -> None:
    lane = Lane(step, limits, table, 0.0)
    for request in range(len(table.arrival)):
        lane.submit(request)
    lane.run_until(math.inf)
    first, finish, preempted, most = naive(step, limits, table)
    assert table.first == pytest.approx(first, rel=1e-9)
    assert table.finish == pytest.approx(finish, rel=1e-9)
    assert table.preemptions == preempted
    assert limits.kv_blocks - lane.least_free_blocks == most
    assert most <= limits.kv_blocks
    assert lane.outstanding(math.inf) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.integers(1, 3000), st.integers(1, 400), st.integers(0, 3000)),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(list(Routing)),
    st.integers(0, 3),
    st.sampled_from([3000, 20_000]),
    st.integers(0, 2**32),
)
def test_every_request_ends_once_whatever_the_fleet_does(
    rows: list[tuple[float, int, int, int]], routing: Routing, replicas: int, kv_tokens: int, seed: int
) -> None:
    arrival, prompt, output, cached = zip(*rows, strict=True)
    requests = Requests.of(arrival, prompt, output, cached)
    resolved = resolve(Deployment("llama-3.1-8b", "h100-sxm", observed_kv_tokens=kv_tokens))

    def run() -> tuple[Fleet, object]:
        fleet = Fleet(resolved, requests, replicas=replicas, cold_start_seconds=2.0, routing=routing, seed=seed)
        for at, count in ((1.0, 1), (2.0, 4), (3.5, 2)):
            fleet.advance(at)
            fleet.scale_to(count)
        fleet.advance()
        return fleet, fleet.outcome()

    outcome = run()[1]
    again = run()[1]
    np.testing.assert_array_equal(outcome.e2e_seconds, again.e2e_seconds)
    np.testing.assert_array_equal(outcome.finished, ~outcome.rejected)
    np.testing.assert_array_equal(
        outcome.rejected, requests.input_tokens + requests.output_tokens > kv_tokens // 16 * 16
    )
    assert outcome.most_kv_blocks_used <= outcome.kv_blocks
    served = outcome.finished
    assert np.all(outcome.replica[served] >= 0)
    assert np.all(outcome.queue_seconds[served] >= 0)
    assert np.all(outcome.ttft_seconds[served] > outcome.queue_seconds[served])
    assert np.all(outcome.e2e_seconds[served] >= outcome.ttft_seconds[served])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.floats(0.5, 60.0), st.integers(0, 1000))
def test_little(count: int, rate: float, seed: int) -> None:
    """Time integral of those inside = sum of times inside, counted by the engine and by the requests."""
    random = np.random.default_rng(seed)
    requests = Requests.of(
        np.cumsum(random.exponential(1 / rate, count)), random.integers(1, 2000, count), random.integers(1, 300, count)
    )
    outcome = simulate(resolve(Deployment("llama-3.1-8b", "h100-sxm")), requests, frontend=Frontend(0.0, 0.0))
    assert outcome.preemptions.sum() == 0
    inside = np.sum(outcome.e2e_seconds - outcome.queue_seconds)
    assert outcome.running_seconds == pytest.approx(inside, rel=1e-9)
    decoding = np.sum(outcome.e2e_seconds - outcome.ttft_seconds)
    assert outcome.batch_seconds == pytest.approx(decoding, rel=1e-9, abs=1e-9)
