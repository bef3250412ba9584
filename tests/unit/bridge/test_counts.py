"""Scrapes to increments to rows: what servers tell is counted once, resets and restarts included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bridge import readings
from pipeline.bridge.deltas import bridge_delta
from pipeline.bridge.increments import MAX_GAP_SECONDS, Increments, TargetState, advance
from pipeline.bridge.readings import read_exposition
from pipeline.bridge.rows import PoolRows, pool_rows
from pipeline.errors import CodecError
from pipeline.windows.bridged import BRIDGE_DIMS
from pipeline.windows.delta import decode, encode
from pipeline.windows.latencies import latency_counts, with_latencies
from pipeline.windows.rollup import rollup
from pipeline.windows.sharding import Chain, ShardChains, shard_of
from pipeline.windows.types import BASE_SECONDS, HISTOGRAMS, MEASURES, ClosedWindow, Delta, PoolKey, WindowKey
from tests.unit.bridge.fake_metrics import Finished, Server

T0 = 1_700_000_000.0
POOL = PoolKey("llama", "chat")


def delta_of(parts: list[PoolRows], at: float = T0) -> Delta:
    """The delta, as a reader gets it: checked in full."""
    return decode(encode(bridge_delta("bridge:test", 0, 5, 9, at, parts)))


def one_window(server: Server, requests: int, kind: Finished | None = None) -> ClosedWindow:
    """What a minute's window says of requests that a server finished between two scrapes in it."""
    server.finish(3)
    state, nothing, _ = advance(None, read_exposition(server.text()), T0)
    assert nothing is None
    server.finish(requests, kind)
    _, increments, left_out = advance(state, read_exposition(server.text()), T0 + 15.0)
    assert increments is not None
    assert not left_out
    delta = delta_of([pool_rows(increments, POOL)])
    (window,) = rollup([(delta.keys, delta.rows)], 86_400)
    counts = latency_counts([(delta.keys, delta.rows, delta.histograms)], 86_400)
    return with_latencies(window, next(iter(counts.values()), {}))


@pytest.mark.parametrize("engine", ["vllm", "old_vllm", "sglang", "tgi"])
def test_a_window_of_each_server(engine: str) -> None:
    window = one_window(Server(engine), 50)
    sums = (window.requests, window.ok, window.input_tokens, window.output_tokens, window.inflight_milliseconds)
    assert sums == (50, 50, 5_000, 1_000, 100_000)
    assert (window.input_tokens_unknown, window.output_tokens_unknown) == (0, 0)
    assert window.tpot_seconds == pytest.approx(0.02, rel=0.01)
    if engine == "tgi":  # tells no time to first token
        assert window.ttft_seconds is None
    else:
        assert window.ttft_seconds == pytest.approx(0.3, rel=0.01)
    if engine in ("vllm", "sglang"):
        assert window.cached_input_tokens == 500
    assert window.input_tokens_squared >= 50 * 100**2  # equal lengths, or spread over the buckets
    queue = 0.1 if engine == "vllm" else 0.0
    assert window.kv_token_milliseconds == pytest.approx(50 * 110 * (2.0 - queue) * 1000)


@pytest.mark.parametrize(
    ("engine", "status"), [("vllm", "cancelled"), ("vllm", "error"), ("sglang", "cancelled"), ("tgi", "rejected")]
)
def test_requests_that_were_not_answered_count_with_unknown_tokens(engine: str, status: str) -> None:
    window = one_window(Server(engine), 7, Finished(status))
    assert (window.requests, window.ok, window.input_tokens_unknown, window.output_tokens_unknown) == (7, 0, 7, 7)
    assert window.rejected == (7 if status == "rejected" else 0)


def test_only_series_of_the_model_are_counted() -> None:
    both = Server(model="llama"), Server(model="qwen", started=None)
    for server in both:
        server.finish(4)
    reading = read_exposition("".join(server.text() for server in both), "qwen")
    assert {labels for _, _, labels in reading.values if "llama" in labels} == set()
    assert sum(v for (quantity, _, _), v in reading.values.items() if quantity == "requests.ok") == 4


@pytest.mark.parametrize("prefix", ["vllm_", "kserve_vllm:"])
def test_names_as_collectors_change_them(prefix: str) -> None:
    server = Server()
    server.finish(2)
    assert read_exposition(server.text().replace("vllm:", prefix)) == read_exposition(server.text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>no metrics</html>",
        "go_threads 7\n",
        'vllm:request_success_total{finished_reason="stop} 1\n',
        "vllm:request_success_total NaN\n",
        "vllm:request_success_total -1\n",
        "vllm:request_success_total 1e300\n",
        "vllm:request_success_total\n",
        'vllm:time_to_first_token_seconds_bucket{le="x"} 1\nvllm:request_success_total 1\n',
        "vllm:request_success_total{" + "a" * 20_000 + '="1"} 1\n',
        "".join(f'vllm:request_success_total{{a="{i}"}} 1\n' for i in range(101)),
    ],
    ids=lambda text: text[:40],
)
def test_hostile_text_is_refused_in_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "MAX_SERIES", 100)
    with pytest.raises(CodecError):
        read_exposition(text)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_change_of_a_scrape_crashes_the_reader(data: st.DataObject) -> None:
    text = Server(done=[Finished()]).text()
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.text(max_size=5)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        reading = read_exposition(text)
    except CodecError:
        return
    state, _, _ = advance(None, reading, T0)
    _, increments, _ = advance(TargetState(T0, None, {}), reading, T0 + 5.0)
    assert state.values == reading.values
    if increments is not None:
        delta_of([pool_rows(increments, POOL)])


#: Finished requests, and what happens then.
histories = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["scrape", "miss", "restart"])), max_size=25)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["vllm", "sglang"]), histories)
def test_every_finished_request_is_counted_once(engine: str, history: list[tuple[int, str]]) -> None:
    """But for those that end between the last scrape of a process and its end: nobody can know of them."""
    server, at = Server(engine), T0
    state, _, _ = advance(None, read_exposition(server.text()), at)
    counted = expected = unseen = 0
    for i, (requests, what) in enumerate([*history, (0, "scrape")]):
        at += 15.0
        server.finish(requests)
        unseen += requests
        if what == "scrape":
            state, increments, left_out = advance(state, read_exposition(server.text()), at)
            assert not left_out
            expected, unseen = expected + unseen, 0
            if increments is not None:
                delta = delta_of([pool_rows(increments, POOL)], at)
                counted += delta.events
                tokens = dict(zip(MEASURES, map(sum, delta.rows.measures), strict=True))
                assert (tokens["requests"], tokens["input_tokens"]) == (delta.events, 100 * delta.events)
        elif what == "restart":
            server.restart(T0 + 10.0 * (i + 1))
            unseen = 0
    assert counted == expected


def test_a_counter_below_its_earlier_value_was_reset() -> None:
    server = Server(started=None)
    server.finish(50)
    state, _, _ = advance(None, read_exposition(server.text()), T0)
    server.restart()
    server.finish(8)
    state, increments, _ = advance(state, read_exposition(server.text()), T0 + 15.0)
    assert increments is not None
    assert increments.requests == 8
    assert increments.of("ttft_seconds", "count") == 8


def test_requests_of_an_unknown_time_are_left_out_and_a_clock_set_back_loses_none() -> None:
    server = Server()
    state, _, _ = advance(None, read_exposition(server.text()), T0)
    server.finish(5)
    state, increments, left_out = advance(state, read_exposition(server.text()), T0 + MAX_GAP_SECONDS + 1)
    assert (increments, left_out) == (None, 5)
    server.finish(6)
    state, increments, _ = advance(state, read_exposition(server.text()), T0)
    assert increments is None
    _, increments, _ = advance(state, read_exposition(server.text()), T0 + MAX_GAP_SECONDS + 20)
    assert increments is not None
    assert increments.requests == 6


amounts = st.floats(0.0, 1e15)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["requests.ok", "requests.error", "requests.rejected"]), st.integers(1, 5_000), min_size=1
    ),
    st.dictionaries(st.sampled_from(["prompt_tokens", "generation_tokens", "cached_tokens", "preemptions"]), amounts),
    st.dictionaries(
        st.sampled_from([*HISTOGRAMS, "itl_seconds"]),
        st.dictionaries(st.sampled_from(["sum", "count", "0.5", "10.0", "inf"]), amounts),
    ),
    st.floats(0.5, 600.0),
)
def test_rows_add_up_whatever_a_server_tells(
    requests: dict[str, int], counters: dict[str, float], told: dict[str, dict[str, float]], seconds: float
) -> None:
    sums = {name: {"": float(n)} for name, n in {**requests, **counters}.items()} | told
    part = pool_rows(Increments(T0, T0 + seconds, sums), POOL)
    delta = delta_of([part, part])  # two servers of one pool
    assert set(delta.keys) == {WindowKey(*POOL, BRIDGE_DIMS)}
    columns = dict(zip(MEASURES, delta.rows.measures, strict=True))
    assert sum(columns["requests"]) == 2 * sum(requests.values()) == delta.events
    statuses = np.array([columns[name] for name in MEASURES[1:6]]).sum(axis=0)
    assert statuses.tolist() == columns["requests"]
    assert sum(columns["input_tokens_unknown"]) <= sum(columns["requests"])
    assert max(delta.rows.window) < T0 + seconds
    assert min(delta.rows.window) > T0 - 600.0 - BASE_SECONDS


def test_each_shard_gets_the_rows_of_its_pools() -> None:
    increments = Increments(T0, T0 + 15.0, {"requests.ok": {"": 7.0}})
    whole = delta_of([pool_rows(increments, PoolKey("m", f"p{i}")) for i in range(8)])
    chains = ShardChains([Chain(5, -1), Chain(5, -1), Chain(10, 3)])  # the third has it already
    parts = {shard: decode(encode(part)) for shard, part in chains.parts(whole)}
    assert sorted(parts) == [0, 1]
    for shard, part in parts.items():
        assert {shard_of(key.model, key.pool, 3) for key in part.keys} <= {shard}
        assert part.events == 7 * len(part.keys)
    idle = bridge_delta("bridge:test", 0, 5, 9, None, [])
    assert [decode(encode(part)).events for _, part in ShardChains([Chain(5, -1)] * 3).parts(idle)] == [0, 0, 0]
