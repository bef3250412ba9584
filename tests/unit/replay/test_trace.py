from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.events.batch_decoder import decode_batch
from pipeline.events.validation import EventLimits
from pipeline.replay.trace import Trace, completed_records

TRACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"
START = 1_700_000_000.0


@pytest.fixture
def requests_path(tmp_path):
    path = tmp_path / "requests.parquet"
    rng = np.random.default_rng(1)
    when = START + np.sort(rng.random(3_000)) * 600
    table = {
        "timestamp": when,
        "prompt_tokens": rng.integers(1, 4_000, 3_000),
        "output_tokens": rng.integers(0, 900, 3_000),
    }
    pd.DataFrame(table).sample(frac=1, random_state=1).to_parquet(path)
    return path


@pytest.fixture
def counts_path(tmp_path):
    path = tmp_path / "counts.csv"
    lines = [f"{int(START) + 10 * i},{n}" for i, n in enumerate([3, 0, 250, 1, 17, 4_000])]
    path.write_text("timestamp,requests\n" + "\n".join(lines) + "\n")
    return path


def events_of(trace, **arguments):
    chunks = list(completed_records(trace, model="m", pool="p", **arguments))
    return [msgspec.json.decode(record.value) | {"_at": record.completed_at} for chunk in chunks for record in chunk]


def test_each_row_becomes_one_event_in_order_of_completion(requests_path):
    events = events_of(Trace.open(requests_path))
    table = pd.read_parquet(requests_path)
    assert len(events) == 3_000
    assert [e["_at"] for e in events] == sorted(e["_at"] for e in events)
    assert sorted(e["arrived_at"] for e in events) == pytest.approx(sorted(table["timestamp"]), abs=1e-6)
    assert sum(e["input_tokens"] for e in events) == table["prompt_tokens"].sum()
    assert sum(e["output_tokens"] for e in events) == table["output_tokens"].sum()
    assert len({e["event_id"] for e in events}) == 3_000


def test_the_pipeline_accepts_every_event(requests_path):
    records = [r for chunk in completed_records(Trace.open(requests_path), model="m", pool="p") for r in chunk]
    columns, rejections, _ = decode_batch(
        [r.value for r in records],
        [int(r.completed_at * 1000) for r in records],
        2e9,
        EventLimits(1 << 20, 86_400.0, 60.0),
    )
    assert (rejections, len(columns)) == ([], 3_000)


def test_counts_expand_to_exactly_their_number_inside_each_bin(counts_path, requests_path):
    events = events_of(Trace.open(counts_path, lengths=requests_path))
    bins = np.bincount([int((e["arrived_at"] - START) // 10) for e in events], minlength=6)
    assert bins.tolist() == [3, 0, 250, 1, 17, 4_000]
    table = pd.read_parquet(requests_path)
    known = set(zip(table["prompt_tokens"], table["output_tokens"], strict=True))
    assert {(e["input_tokens"], e["output_tokens"]) for e in events} <= known


@pytest.mark.slow
def test_a_seed_decides_the_expansion(counts_path, requests_path):
    trace = Trace.open(counts_path, lengths=requests_path)
    assert events_of(trace, seed=1) == events_of(trace, seed=1)
    assert [e["arrived_at"] for e in events_of(trace, seed=1)] != [e["arrived_at"] for e in events_of(trace, seed=2)]


def test_ids_tell_replays_apart_that_are_not_the_same(requests_path):
    trace = Trace.open(requests_path)

    def ids(model, start_at):
        chunks = completed_records(trace, model=model, pool="p", start_at=start_at, limit=5)
        return {msgspec.json.decode(r.value)["event_id"] for c in chunks for r in c}

    assert ids("m", None) == ids("m", None)
    assert not ids("m", None) & ids("other", None)
    assert not ids("m", None) & ids("m", START + 1)


def test_start_at_moves_the_first_arrival_and_keeps_the_distances(requests_path):
    trace = Trace.open(requests_path)
    plain = sorted(e["arrived_at"] for e in events_of(trace))
    moved = sorted(e["arrived_at"] for e in events_of(trace, start_at=1_800_000_000.0))
    assert moved[0] == pytest.approx(1_800_000_000.0, abs=1e-5)
    assert np.allclose(np.diff(moved), np.diff(plain), atol=3e-6)


def test_limit_takes_the_first_arrivals(requests_path):
    trace = Trace.open(requests_path)
    first = sorted(e["arrived_at"] for e in events_of(trace))[:100]
    assert sorted(e["arrived_at"] for e in events_of(trace, limit=100)) == first


@pytest.mark.slow
def test_memory_stays_bounded_by_chunks(tmp_path, requests_path):
    path = tmp_path / "long.csv"
    path.write_text("timestamp,requests\n" + "".join(f"{int(START) + 10 * i},5000\n" for i in range(60)))
    sizes = [len(c) for c in completed_records(Trace.open(path, lengths=requests_path), model="m", pool="p")]
    assert sum(sizes) == 300_000
    assert max(sizes) < 50_000


def test_milliseconds_relative_times_and_public_column_names(tmp_path):
    path = tmp_path / "mooncake.csv"
    path.write_text("timestamp_ms,input_length,output_length\n0,10,5\n2500,20,1\n")
    trace = Trace.open(path)
    assert trace.is_relative
    with pytest.raises(InputError, match="--start-at"):
        next(completed_records(trace, model="m", pool="p"))
    events = events_of(trace, start_at=START)
    assert sorted(e["arrived_at"] for e in events) == [START, START + 2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,prompt_tokens,output_tokens\n", "is empty"),
        ("when,prompt_tokens,output_tokens\n1,1,1\n", "has no time column"),
        ("timestamp,prompt_tokens\n1,1\n", "has no input and output token, or count column"),
        ("timestamp,prompt_tokens,output_tokens\n1,-4,1\n", "no token count between 0 and"),
        ("timestamp,prompt_tokens,output_tokens\n1,4,NaN\n", "no token count between 0 and"),
        ("timestamp,prompt_tokens,output_tokens\n1,4,99999999999\n", "no token count between 0 and"),
        ("timestamp,prompt_tokens,output_tokens\nsoon,4,1\n2,3,4\n", "a time that cannot be read"),
        ("timestamp,prompt_tokens,output_tokens\n1700000000000,4,1\n", "look like milliseconds since 1970"),
        ("timestamp,requests\n0,1\n10,2\n", "name a per-request trace"),
        ("timestamp,requests\n0,1.5\n10,2\n", "no whole count"),
        ("timestamp,requests\n0,-1\n10,2\n", "no whole count"),
    ],
)
def test_bad_traces_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Trace.open(path)


def test_a_single_bin_has_no_width(tmp_path, requests_path):
    path = tmp_path / "one.csv"
    path.write_text("timestamp,requests\n1700000000,5\n")
    with pytest.raises(InputError, match="width of its bins"):
        Trace.open(path, lengths=requests_path)


@pytest.mark.slow
def test_published_traces_expand_exactly():
    counts, lengths = TRACES / "azure_llm_2024/conv_10s_counts.parquet", TRACES / "azure_llm_2023/conv_requests.parquet"
    if not (counts.is_file() and lengths.is_file()):
        pytest.skip("the Azure traces are not beside the checkout (../shared/data/traces)")
    wanted = pd.read_parquet(counts).head(40)["requests"].tolist()
    trace = Trace.open(counts, lengths=lengths)
    arrived = [r.arrived_at for c in completed_records(trace, model="m", pool="p", limit=sum(wanted)) for r in c]
    found = np.bincount(((np.asarray(arrived) - trace.first_at) // 10).astype(int))
    assert found.tolist() == wanted


@pytest.mark.parametrize("wrong", [0, 3_000_000_000])
def test_a_time_far_from_all_others_is_refused(tmp_path, wrong):
    times = [1_767_225_600 + 5 * i for i in range(200)]
    times[70] = wrong
    path = tmp_path / "t.csv"
    path.write_text("timestamp,input_tokens,output_tokens\n" + "".join(f"{t},10,5\n" for t in times))
    with pytest.raises(InputError, match=f"1 row has a time far from all others.*'{wrong}'"):
        Trace.open(path)


def test_a_file_without_a_known_column_says_what_it_has(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("when,in,out\n1,2,3\n4,5\n")
    with pytest.raises(InputError, match=r"no time column \(looked for .*\); it has: when,in,out; line 3 has"):
        Trace.open(path)
