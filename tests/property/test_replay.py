from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo.actuator import FleetActuator
from pipeline.demo.scenario import scenario
from pipeline.replay.sources import read_demand
from pipeline.replay.trace import Trace, completed_records

counts = st.lists(st.integers(0, 400), min_size=2, max_size=25)


def write(folder, name, text):
    path = Path(folder) / name
    path.write_text(text)
    return path


@settings(max_examples=15, deadline=None)
@given(counts=counts, width=st.sampled_from([1, 10, 60]), seed=st.integers(0, 1_000), shift=st.integers(0, 86_400))
def test_every_bin_gets_exactly_its_requests_wherever_it_is_moved(counts, width, seed, shift):
    start = 1_700_000_000
    with tempfile.TemporaryDirectory() as folder:
        lengths = write(folder, "l.csv", "timestamp,prompt_tokens,output_tokens\n0,10,3\n1,900,200\n")
        rows = "".join(f"{start + width * i},{n}\n" for i, n in enumerate(counts))
        trace = Trace.open(write(folder, "c.csv", "timestamp,requests\n" + rows), lengths=lengths)
        chunks = completed_records(trace, model="m", pool="p", seed=seed, start_at=float(start + shift))
        records = [record for chunk in chunks for record in chunk]
    bins = [int((record.arrived_at - start - shift) // width) for record in records]
    assert np.bincount(bins, minlength=len(counts)).tolist() == counts
    completed = [record.completed_at for record in records]
    assert completed == sorted(completed)
    assert all(record.completed_at > record.arrived_at for record in records)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 1_000)), min_size=1, max_size=60),
    step=st.sampled_from([60, 300]),
    order=st.randoms(use_true_random=False),
)
def test_a_request_table_keeps_every_row_in_any_order(rows, step, order):
    def read(rows):
        with tempfile.TemporaryDirectory() as folder:
            text = "t,x\n" + "".join(f"{t},{x}\n" for t, x in rows)
            return read_demand(write(folder, "r.csv", text), step_seconds=step, time_column="t")[0]

    series = read(rows)
    assert series.values.sum() == len(rows)
    assert not np.isnan(series.values).any()
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert np.array_equal(read(shuffled).values, series.values)


advice = st.lists(st.tuples(st.floats(0, 400), st.integers(-3, 80)), max_size=40)


@settings(max_examples=200, deadline=None)
@given(advice)
def test_the_actuator_never_leaves_its_limits_and_reaches_the_last_wish(steps):
    fleet = scenario("demo", 1_795_000_020.0)
    actuator = FleetActuator(fleet, lead_seconds=180.0)
    spec = fleet.pools[0].settings
    now, last = fleet.live_start, None
    for wait, desired in steps:
        now += wait
        actuator.apply(spec.model, spec.pool, desired, now)
        last = min(max(desired, spec.min_replicas), spec.max_replicas)
        record = actuator.status(now)[0]
        assert 0 <= record["ready"] <= record["current"]
        assert record["current"] == last
    if last is not None:
        assert actuator.ready(0, now + 181.0) == last
