"""Folding against a plain loop over events."""

import math
import random
from collections import Counter

from pipeline.events.columns import from_events
from pipeline.events.request_event import RequestEvent
from pipeline.windows import histogram
from pipeline.windows.fold import fold, take_rows
from pipeline.windows.types import HISTOGRAMS, MEASURES

NOW = 1_767_225_600.0


def random_events(n, seed=7):
    rng = random.Random(seed)
    for i in range(n):
        e2e = rng.expovariate(0.2)
        tokens = int(rng.lognormvariate(6, 1))
        yield RequestEvent(
            event_id=str(i),
            model=rng.choice("ab"),
            pool=rng.choice("xy"),
            input_tokens=tokens,
            cached_input_tokens=rng.choice([None, tokens // 2]),
            output_tokens=rng.randrange(300),
            reasoning_output_tokens=rng.choice([None, 0]),
            status=rng.choice(["ok", "ok", "ok", "error", "rejected", "cancelled", "timeout"]),
            arrived_at=NOW + rng.random() * 60,
            e2e_seconds=e2e,
            ttft_seconds=rng.choice([None, e2e / 10]),
            queue_seconds=rng.choice([None, e2e / 20]),
            preemptions=rng.choice([None, 1]),
        )


def oracle(events):
    rows, cells = {}, Counter()
    for e in events:
        key = (int(e.arrived_at // 10) * 10, e.model, e.pool)
        row = rows.setdefault(key, Counter())
        e2e_ms, queue_ms = round(e.e2e_seconds * 1000), round((e.queue_seconds or 0) * 1000)
        row.update(
            {
                "requests": 1,
                e.status: 1,
                "input_tokens": e.input_tokens,
                "cached_input_tokens": e.cached_input_tokens or 0,
                "cached_known": e.cached_input_tokens is not None,
                "output_tokens": e.output_tokens,
                "input_tokens_squared": e.input_tokens**2,
                "output_tokens_squared": e.output_tokens**2,
                "input_output_product": e.input_tokens * e.output_tokens,
                "kv_token_milliseconds": (2 * e.input_tokens + e.output_tokens) * (e2e_ms - queue_ms) // 2,
                "inflight_milliseconds": e2e_ms,
                "preemptions": e.preemptions or 0,
            }
        )
        known = {
            "input_tokens": e.input_tokens,
            "output_tokens": e.output_tokens if e.status == "ok" else None,
            "ttft_seconds": e.ttft_seconds if e.status == "ok" else None,
            "queue_seconds": e.queue_seconds,
            "e2e_seconds": e.e2e_seconds,
            "tpot_seconds": (e.e2e_seconds - e.ttft_seconds) / (e.output_tokens - 1)
            if e.ttft_seconds is not None and e.status == "ok" and e.output_tokens >= 2
            else None,
        }
        cells.update((key, name, int(histogram.bucket(x))) for name, x in known.items() if x is not None)
    return rows, cells


def test_equals_a_plain_loop():
    events = list(random_events(2_000))
    keys, rows, cells = fold(from_events(events))
    expected_rows, expected_cells = oracle(events)
    names = [(w, keys[k].model, keys[k].pool) for w, k in zip(rows.window, rows.key, strict=True)]
    assert sorted(names) == sorted(expected_rows)
    assert rows.window == sorted(rows.window)
    for i, measure in enumerate(MEASURES):
        assert rows.measures[i] == [expected_rows[name][measure] for name in names], measure
    got = {
        (names[r], HISTOGRAMS[m], b): n
        for r, m, b, n in zip(cells.row, cells.metric, cells.bucket, cells.n, strict=True)
    }
    assert got == expected_cells


def test_nothing_folds_to_nothing():
    keys, rows, cells = fold(from_events([]))
    assert keys == []
    assert rows.window == []
    assert len(rows.measures) == len(MEASURES)
    assert cells.row == []


def test_the_window_is_that_of_the_arrival():
    event = RequestEvent(
        event_id="a", model="m", input_tokens=1, output_tokens=1, status="ok", arrived_at=NOW - 0.001, e2e_seconds=500.0
    )
    _, rows, _ = fold(from_events([event]))
    assert rows.window == [NOW - 10]
    assert rows.max_completed_ms == [round((NOW + 499.999) * 1000)]


def test_the_largest_believable_events_fit_64_bits():
    event = RequestEvent(
        event_id="a",
        model="m",
        input_tokens=10_000_000,
        output_tokens=10_000_000,
        status="ok",
        arrived_at=NOW,
        e2e_seconds=86_400.0,
    )
    _, rows, _ = fold(from_events([event] * 20_000))
    assert all(
        0 < column[0] < 2**63 or name in {"rejected"}
        for name, column in zip(MEASURES, rows.measures, strict=True)
        if column[0]
    )
    assert rows.measures[0] == [20_000]
    assert rows.measures[MEASURES.index("kv_token_milliseconds")][0] > 1e18


def test_a_queue_longer_than_the_request_holds_no_memory():
    event = RequestEvent(
        event_id="a",
        model="m",
        input_tokens=5,
        output_tokens=1,
        status="ok",
        arrived_at=NOW,
        e2e_seconds=1.0,
        queue_seconds=2.0,
    )
    _, rows, _ = fold(from_events([event]))
    assert rows.measures[MEASURES.index("kv_token_milliseconds")] == [0]
    assert not math.isnan(rows.measures[MEASURES.index("inflight_milliseconds")][0])


def test_take_rows_keeps_the_histograms_with_their_rows():
    _, rows, cells = fold(from_events(list(random_events(200))))
    part, part_cells = take_rows(rows, cells, [1, 3])
    assert part.window == [rows.window[1], rows.window[3]]
    for new, old in enumerate([1, 3]):
        assert sum(n for r, n in zip(part_cells.row, part_cells.n, strict=True) if r == new) == sum(
            n for r, n in zip(cells.row, cells.n, strict=True) if r == old
        )
    assert take_rows(rows, cells, range(len(rows.window))) == (rows, cells)


def test_windows_far_apart_and_many_rows_equal_a_plain_loop():
    events = [
        RequestEvent(
            event_id=str(i),
            model=f"m{i % 7}",
            input_tokens=i % 50,
            output_tokens=3,
            status="ok",
            arrived_at=NOW + (i * 7919 % 9_000) * 60.0,
            e2e_seconds=1.0,
        )
        for i in range(6_000)
    ]
    keys, rows, cells = fold(from_events(events))
    expected_rows, expected_cells = oracle(events)
    assert len(rows.window) == len(expected_rows) > 5_461, "beyond what fits 32-bit histogram codes"
    names = [(w, keys[k].model, keys[k].pool) for w, k in zip(rows.window, rows.key, strict=True)]
    assert names == sorted(names, key=lambda name: (name[0], [k.model for k in keys].index(name[1])))
    assert rows.measures[MEASURES.index("input_tokens")] == [expected_rows[name]["input_tokens"] for name in names]
    got = {
        (names[r], HISTOGRAMS[m], b): n
        for r, m, b, n in zip(cells.row, cells.metric, cells.bucket, cells.n, strict=True)
    }
    assert got == expected_cells
