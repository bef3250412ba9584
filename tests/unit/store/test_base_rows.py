"""Sums and latencies of many pools at once: those of the rows that are stored, whatever keys they have."""

from pipeline.windows.latencies import latency_counts
from pipeline.windows.rollup import rollup
from pipeline.windows.types import MEASURES
from tests.unit.store.support import NOW, delta, value


def _regions(store):
    values = [
        value(str(i), at=NOW + i, pool="abc"[i % 3], region="xyz"[i % 7 % 3], ttft_seconds=0.1 * (1 + i % 2))
        for i in range(120)
    ]
    part = delta(values, dimensions=("region",))
    store.apply([(0, 0, part)])
    return part


def test_latencies_of_a_pool_are_those_of_all_its_keys(store):
    part = _regions(store)
    expected = latency_counts([(part.keys, part.rows, part.histograms)], 60)
    for start in (NOW, NOW + 60):
        assert {(start, *pool): counts for pool, counts in store.latency_counts(start, start + 60).items()} == {
            key: counts for key, counts in expected.items() if key[0] == start
        }


def test_only_the_pools_that_are_asked_for_are_read(store):
    part = _regions(store)
    asked = [("m", "never seen"), ("m", "c"), ("m", "a")]
    sums = store.window_sums(NOW, NOW + 60, asked)
    assert sums == [window for window in rollup([(part.keys, part.rows)], 60) if window.end == NOW + 60][::2]
    assert sorted(store.latency_counts(NOW, NOW + 60, asked)) == [("m", "a"), ("m", "c")]
    assert store.window_sums(NOW, NOW + 60, asked[:1]) == []
    assert store.latency_counts(NOW, NOW + 60, asked[:1]) == {}
    assert store.window_sums(0, 60, asked) == []
    assert store.latency_counts(0, 60, asked) == {}


def test_sums_are_exact_where_a_float_is_not_and_beyond_64_bits(store):
    tokens = MEASURES.index("input_tokens")
    for number, (at, many) in enumerate(((0, 2**53 + 1), (10, 2**63 - 1), (20, 2**63 - 2))):
        values = [value(f"{number}{pool}", at=NOW + at, pool=pool) for pool in "ab"]
        part = delta(values, first=2 * number)
        part.rows.measures[tokens][0] = many
        store.apply([(0, number, part)])
    assert [window.input_tokens for window in store.window_sums(NOW, NOW + 60)] == [2**64 + 2**53 - 2, 30]
    assert store.window_sums(NOW, NOW + 10)[0].input_tokens == 2**53 + 1


def test_pools_are_those_of_committed_rows(store):
    assert store.pools() == []
    store.apply([(0, 0, delta([value("1", pool="b"), value("2", pool="a")]))])
    store.apply([(0, 1, delta([value("3", pool="b", model="k")], first=2))])
    assert store.pools() == [("k", "b"), ("m", "a"), ("m", "b")]
