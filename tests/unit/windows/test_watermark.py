"""Watermark, completeness, rollup."""

import pytest

from pipeline.windows import histogram
from pipeline.windows.completeness import MIN_COMPLETENESS, completeness
from pipeline.windows.rollup import rollup
from pipeline.windows.types import MEASURES, DeltaRows, WindowKey
from pipeline.windows.watermark import Watermark


def test_the_slowest_active_partition_decides():
    mark = Watermark()
    assert mark.time() is None
    mark.observe(0, 100.0, idle=False)
    assert mark.time() == 100.0
    mark.observe(1, 50.0, idle=False)
    assert mark.time() == 100.0  # never back
    mark.observe(0, 300.0, idle=False)
    mark.observe(1, 200.0, idle=False)
    assert mark.time() == 200.0


def test_idle_partitions_do_not_hold_it_back():
    mark = Watermark()
    mark.observe(0, 100.0, idle=False)
    mark.observe(1, 10.0, idle=False)
    mark.observe(2, None, idle=True)  # never had an event
    assert mark.time() == 10.0
    mark.observe(1, None, idle=True)
    assert mark.time() == 100.0
    mark.observe(0, None, idle=True)
    assert mark.time() == 100.0  # all idle: what was seen
    mark.observe(1, 150.0, idle=False)
    assert mark.time() == 150.0


def test_a_partitions_time_does_not_go_back():
    mark = Watermark()
    mark.observe(0, 100.0, idle=False)
    mark.observe(0, 40.0, idle=False)
    mark.observe(1, 100.0, idle=False)
    assert mark.time() == 100.0


def counts(*latencies):
    found = {}
    for b in histogram.bucket(latencies).tolist():
        found[b] = found.get(b, 0) + 1
    return found


def test_completeness():
    assert completeness({}, 0, 60, 0) == 1.0
    assert completeness(counts(0.0), 0, 60, 60) == 1.0
    assert completeness(counts(30.0), 0, 60, 60) == pytest.approx(0.5, abs=0.01)
    assert completeness(counts(30.0), 0, 60, 90.5) == 1.0
    assert completeness(counts(0.0, 1_000.0), 0, 60, 60) == 0.5
    assert completeness(counts(1_000.0), 0, 60, 60) == MIN_COMPLETENESS
    assert completeness(counts(30.0), 0, 60, -100) == MIN_COMPLETENESS


def test_completeness_grows_with_the_watermark():
    latencies = counts(*[0.5 * i for i in range(200)])
    shares = [completeness(latencies, 0, 60, mark) for mark in range(60, 200, 10)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def rows(*cells):
    return DeltaRows(
        window=[w for w, _, _ in cells],
        key=[k for _, k, _ in cells],
        measures=[[n * (i + 1) for _, _, n in cells] for i in range(len(MEASURES))],
        max_completed_ms=[0 for _ in cells],
    )


def test_rollup():
    keys = [WindowKey("m", "b", "r=1"), WindowKey("m", "b", "r=2"), WindowKey("m", "a", "")]
    windows = rollup([(keys, rows((60, 0, 1), (110, 1, 2), (120, 0, 4))), (keys[2:], rows((60, 0, 8)))], 60)
    assert [(w.start, w.model, w.pool, w.requests, w.ok) for w in windows] == [
        (60, "m", "a", 8, 16),
        (60, "m", "b", 3, 6),
        (120, "m", "b", 4, 8),
    ]
    assert windows[1].input_tokens == 3 * (MEASURES.index("input_tokens") + 1)
    assert windows[1].end == 120
    with pytest.raises(ValueError, match="multiple"):
        rollup([], 15)
