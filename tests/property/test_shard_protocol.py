"""Random histories of kills, zombies and restarts with several shards: the logs say together what was produced, once.

Every shard's log is read by the rule alone, as its controller would. Writers die between the appends to two shards,
sleep while others write, and start anew from the tails.
"""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.validation import EventLimits
from pipeline.testing import request_event
from pipeline.windows.delta import applies, covered_position, decode, encode
from pipeline.windows.partition_folder import PartitionAggregator
from pipeline.windows.sharding import Chain, ShardChains, shard_of

NOW = 1_700_000_000.0
HORIZON = 30
RECORDS = 120


def produced(rng):
    """Records with retries and poison; the retries lie within the horizon."""
    values = []
    for i in range(RECORDS):
        kind = rng.random()
        if kind < 0.05:
            values.append(rng.choice([None, b"{", b"null"]))
        elif kind < 0.15 and i:
            values.append(values[i - rng.randrange(1, min(i, HORIZON // 2) + 1)])
        else:
            event = request_event(f"e{i}", NOW + rng.random() * 50, model=rng.choice("abc"), pool=rng.choice("pq"))
            values.append(json.dumps(event).encode())
    return values


def folder():
    return PartitionAggregator("requests", 1, "x", EventLimits(), HORIZON)


def cells(delta):
    rows, histograms = delta.rows, delta.histograms
    found = Counter()
    for i, (window, key) in enumerate(zip(rows.window, rows.key, strict=True)):
        for name, column in enumerate(rows.measures):
            found[window, delta.keys[key], "measure", name] += column[i]
    for row, *cell, n in zip(histograms.row, histograms.metric, histograms.bucket, histograms.n, strict=True):
        found[rows.window[row], delta.keys[rows.key[row]], *cell] += n
    return +found


class Writer:
    """One life of an aggregator that writes to all logs, in steps between which anything may happen."""

    def __init__(self, source, logs):
        self.source, self.logs = source, logs
        self.align()

    def align(self):
        chains = []
        for log in self.logs:
            tail = [(offset, decode(value)) for offset, value in enumerate(log)]
            chains.append(Chain(covered_position(tail) or 0, len(log) - 1))
        self.chains = ShardChains(chains)
        self.read = max(0, self.chains.position - HORIZON)
        self.folder = folder()
        self.pending = []

    def step(self, records, rng):
        """Append to one log if something is folded and not yet written everywhere; else fold."""
        if self.pending:
            shard, delta = self.pending.pop(rng.randrange(len(self.pending)))
            log = self.logs[shard]
            log.append(encode(delta))
            position = delta.from_offset if delta.base_delta_offset >= 0 else None
            for value in log[delta.base_delta_offset + 1 :]:
                if applies(position, decode(value)) == "apply":
                    position = decode(value).through_offset + 1
            self.chains.move(shard, position, len(log) - 1)
            if not self.pending and self.chains.position != self.written:
                self.align()
            return
        stop = min([self.read + records, len(self.source), *(c for c in self.chains.cuts if c > self.read)])
        values = self.source[self.read : stop]
        delta, _ = self.folder.fold(
            values,
            range(self.read, stop),
            [-1] * len(values),
            self.read,
            stop,
            NOW + 60,
            emit_from=self.chains.position,
        )
        self.read = stop
        if delta is not None:
            self.written = stop
            self.pending = self.chains.parts(delta)

    @property
    def done(self):
        return not self.pending and self.chains.position == len(self.source)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), shards=st.sampled_from([1, 2, 3, 5]))
def test_the_shards_together_hold_every_event_once(seed, shards):
    rng = random.Random(seed)
    source = produced(rng)
    logs = [[] for _ in range(shards)]
    lives = [Writer(source, logs)]
    for _ in range(rng.randrange(20, 200)):
        event = rng.random()
        if event < 0.05:
            lives.append(Writer(source, logs))  # a rival, or the next life while the old one sleeps
        elif event < 0.1:
            lives[rng.randrange(len(lives))] = Writer(source, logs)  # killed and started again
        else:
            rng.choice(lives).step(rng.randrange(1, 25), rng)
    last = Writer(source, logs)
    for _ in range(10_000):
        if last.done:
            break
        last.step(20, rng)
    assert last.done

    whole, letters = folder().fold(source, range(RECORDS), [-1] * RECORDS, 0, RECORDS, NOW + 60)
    found, ledger, dead = Counter(), Counter(), []
    for shard, log in enumerate(logs):
        position = None
        for value in log:
            delta = decode(value)
            verdict = applies(position, delta)
            assert verdict != "gap"
            if verdict == "apply":
                assert position == delta.from_offset or (position is None and delta.from_offset == 0)
                position = delta.through_offset + 1
                found.update(cells(delta))
                ledger.update({n: getattr(delta, n) for n in ("records", "events", "duplicates", "lost")})
                dead += delta.dead_letters
                assert {shard_of(k.model, k.pool, shards) for k in delta.keys} <= {shard}
        assert position == RECORDS
    assert found == cells(whole)
    assert ledger == Counter(records=RECORDS, events=whole.events, duplicates=whole.duplicates, lost=0)
    assert sorted(letter.offset for letter in dead) == [letter.offset for letter in letters]


def test_a_writer_that_ignored_the_other_shards_would_be_found_out():
    rng = random.Random(3)
    source = produced(rng)
    logs = [[], []]
    writer = Writer(source, logs)
    writer.step(40, rng)
    shard, delta = writer.pending[0]
    logs[shard].append(encode(delta))  # dies between the two appends
    lagging = Writer(source, logs)
    assert lagging.chains.cuts == [40]
    with pytest.raises(ValueError, match="does not fit"):
        lagging.chains.parts(folder().fold(source, range(RECORDS), [-1] * RECORDS, 0, RECORDS, NOW)[0])
