"""Shards: where a pool belongs, what each shard gets of a delta, and where its chain stands."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from pipeline.events.validation import EventLimits
from pipeline.testing import request_event
from pipeline.windows.delta import decode, encode, validate
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import Chain, ShardChains, keeper_of, shard_of, split

NOW = 1_700_000_000.0


def folded(partition=0, first=0, lost=0, pools=12, bad=3):
    values = [
        json.dumps(
            request_event(f"e{i}", NOW + i % 40, model=f"m{i % 3}", pool=f"p{i % pools}", input_tokens=i)
        ).encode()
        for i in range(200)
    ]
    values += [b"{"] * bad + [values[0]]
    aggregator = PartitionAggregator("requests", partition, "a", EventLimits(), 1_000)
    end = first + len(values)
    return aggregator.fold(values, range(first, end), [-1] * len(values), first, end, NOW + 100, lost=lost)[0]


def cells(delta):
    rows, histograms = delta.rows, delta.histograms
    found = Counter()
    for i, (window, key) in enumerate(zip(rows.window, rows.key, strict=True)):
        found[window, delta.keys[key], tuple(c[i] for c in rows.measures), rows.max_completed_ms[i]] += 1
    for row, metric, bucket, n in zip(histograms.row, histograms.metric, histograms.bucket, histograms.n, strict=True):
        found[rows.window[row], delta.keys[rows.key[row]], metric, bucket] += n
    return found


def test_a_pool_has_one_shard_and_shards_share_the_pools():
    owners = Counter(shard_of("model", f"pool{i}", 8) for i in range(8_000))
    assert sorted(owners) == list(range(8))
    assert all(850 < n < 1_150 for n in owners.values())
    assert shard_of("a", "b\x00c", 1 << 30) != shard_of("a\x00b", "d", 1 << 30)
    assert 0 <= shard_of("lone \ud800 surrogate", "p", 3) < 3


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("partition", [0, 5])
def test_the_parts_say_together_what_the_whole_says(shards, partition):
    whole = folded(partition, first=50, lost=10)
    parts = split(whole, shards)
    assert len(parts) == shards
    assert sum((cells(part) for part in parts), Counter()) == cells(whole)
    for name in ("records", "events", "duplicates"):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)
    for shard, part in enumerate(parts):
        validate(decode(encode(part)))
        assert (part.from_offset, part.through_offset, part.lost) == (40, 253, 10)
        assert part.max_event_at == whole.max_event_at
        assert all(shard_of(key.model, key.pool, shards) == shard for key in part.keys)
        kept = shard == keeper_of(partition, shards)
        assert (len(part.dead_letters), part.duplicates) == ((3, 1) if kept else (0, 0))


def test_a_heartbeat_goes_to_every_shard():
    beat = PartitionAggregator("requests", 0, "a", EventLimits(), 0).heartbeat(7)
    chains = ShardChains([Chain(7, 3), Chain(7, 9)])
    parts = chains.parts(beat)
    assert [(shard, part.from_offset, part.base_delta_offset, part.idle) for shard, part in parts] == [
        (0, 7, 3, True),
        (1, 7, 9, True),
    ]
    for _, part in parts:
        validate(part)


def test_only_the_shards_that_lag_get_what_the_others_have():
    whole = folded(first=50)
    chains = ShardChains([Chain(50, 1), Chain(254, 8), Chain(50, -1)])
    assert (chains.position, chains.reached, chains.cuts) == (50, 254, [254])
    assert [shard for shard, _ in chains.parts(whole)] == [0, 2]
    chains.move(0, 254, 2)
    assert (chains.position, chains.cuts) == (50, [254])
    chains.move(2, 254, 0)
    assert (chains.position, chains.cuts) == (254, [])
    assert chains[2] == Chain(254, 0)


def test_offsets_that_a_shard_had_before_the_broker_lost_them_are_not_lost_to_it():
    whole = folded(first=60, lost=20)  # 40..59 are gone
    parts = dict(ShardChains([Chain(40, 0), Chain(55, 0), Chain(60, 0)]).parts(whole))
    assert [(parts[s].from_offset, parts[s].lost) for s in range(3)] == [(40, 20), (55, 5), (60, 0)]
    for part in parts.values():
        validate(part)


@pytest.mark.parametrize("position", [49, 51, 200])
def test_a_delta_that_leaves_a_gap_or_runs_across_a_cut_is_refused(position):
    with pytest.raises(ValueError, match="does not fit"):
        ShardChains([Chain(50, 0), Chain(position, 0)]).parts(folded(first=50))
