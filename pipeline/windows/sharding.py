"""Pools split over several controllers: which shard a pool belongs to, and one chain of deltas for each shard.

Every shard has a log of deltas of its own, and in each log the deltas of a source partition cover every offset, also
where none of the shard's pools occurs. So the rule of ``pipeline.windows.delta.applies`` holds in each log by itself,
whatever happens to the others (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.windows.types import Delta, DeltaRows, HistogramRows

__all__ = ["Chain", "ShardChains", "keeper_of", "shard_of", "split"]


@lru_cache(maxsize=65_536)
def shard_of(model: str, pool: str, shards: int) -> int:
    """Return the shard, 0 to ``shards`` − 1, that a pool belongs to; the same on every machine and in every version.

    The first 8 bytes of BLAKE2b over ``model``, a zero byte and ``pool`` (UTF-8), as a big-endian number, modulo
    ``shards``.

    >>> [shard_of("llama", pool, 4) for pool in ("chat", "batch", "code")]
    [1, 2, 1]
    """
    name = f"{model}\x00{pool}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") % shards


def keeper_of(partition: int, shards: int) -> int:
    """Return the shard that counts what belongs to no pool in a source partition: duplicates and dead letters."""
    return partition % shards


def split(delta: Delta, shards: int) -> list[Delta]:
    """Return one delta per shard, all of the same offsets; together they say what ``delta`` says.

    Each has the rows of its own pools and the event time of the whole; ``lost`` stands in every one, because every
    shard misses those offsets. What belongs to no pool (duplicates, dead letters, ignored records and the other
    counters) goes to ``keeper_of(partition)``. A record goes with its event; where records have several events, which
    may belong to several shards, all records go to the keeper.
    """
    if shards == 1:
        return [delta]
    owner = np.array([shard_of(key.model, key.pool, shards) for key in delta.keys], np.int64)
    rows = np.array([delta.rows.window, delta.rows.key, delta.rows.max_completed_ms, *delta.rows.measures], np.int64)
    owner_of_row = owner[rows[1]] if rows.shape[1] else np.zeros(0, np.int64)
    histograms = delta.histograms
    cells = np.array([histograms.row, histograms.metric, histograms.bucket, histograms.n], np.int64)
    owner_of_cell = owner_of_row[cells[0]] if cells.shape[1] else np.zeros(0, np.int64)
    keeper = keeper_of(delta.partition, shards)
    one_each = delta.event_records == delta.events + delta.duplicates
    parts = []
    for shard in range(shards):
        mine = owner_of_row == shard
        keys, key = np.unique(rows[1, mine], return_inverse=True)
        window, _, completed, *measures = rows[:, mine].tolist()
        new_row = np.cumsum(mine) - 1
        row, metric, bucket, n = cells[:, owner_of_cell == shard]
        events = sum(measures[0])
        kept = shard == keeper
        event_records = events if one_each else 0
        if kept:
            event_records = events + delta.duplicates if one_each else delta.event_records
        parts.append(
            msgspec.structs.replace(
                delta,
                records=event_records + (delta.ignored + len(delta.dead_letters) if kept else 0),
                events=events,
                duplicates=delta.duplicates if kept else 0,
                dead_letters=delta.dead_letters if kept else [],
                event_records=event_records,
                ignored=delta.ignored if kept else 0,
                ignored_parts=delta.ignored_parts if kept else 0,
                refused_parts=delta.refused_parts if kept else {},
                unknown=delta.unknown if kept else {},
                reused_ids=delta.reused_ids if kept else 0,
                codecs=delta.codecs if kept else {},
                clock_offsets=delta.clock_offsets if kept else {},
                keys=[delta.keys[i] for i in keys.tolist()],
                rows=DeltaRows(window, key.tolist(), measures, completed),
                histograms=HistogramRows(new_row[row].tolist(), metric.tolist(), bucket.tolist(), n.tolist()),
            )
        )
    return parts


class Chain(NamedTuple):
    """How far one shard's log covers a source partition: next source offset wanted, offset of the newest delta."""

    position: int
    base: int


class ShardChains:
    """How far the log of every shard covers one source partition; what its writer keeps in mind.

    The logs differ after a crash between two of them. Then the writer goes on from ``position``, the least, and cuts
    what it folds at ``cuts``, so that no delta runs across the place where another shard already is.
    """

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._chains = list(chains)

    def __getitem__(self, shard: int) -> Chain:
        return self._chains[shard]

    @property
    def position(self) -> int:
        """Source offset from which at least one shard still wants events."""
        return min(chain.position for chain in self._chains)

    @property
    def reached(self) -> int:
        """Source offset that the furthest shard has reached."""
        return max(chain.position for chain in self._chains)

    @property
    def cuts(self) -> list[int]:
        """Source offsets after ``position`` at which a delta must end, ascending."""
        return sorted({chain.position for chain in self._chains} - {self.position})

    def parts(self, delta: Delta) -> list[tuple[int, Delta]]:
        """Return (shard, delta to append to its log), ``base_delta_offset`` set, for every shard that wants it.

        Raises:
            ValueError: the delta leaves a gap, or runs across a cut.
        """
        found = []
        for shard, (part, chain) in enumerate(zip(split(delta, len(self._chains)), self._chains, strict=True)):
            if chain.position > delta.through_offset and chain.position != delta.from_offset:
                continue
            part.base_delta_offset = chain.base
            missing = chain.position - delta.from_offset
            if not 0 <= missing <= delta.lost:
                raise ValueError(
                    f"a delta from {delta.from_offset} to {delta.through_offset} does not fit a shard at "
                    f"{chain.position}"
                )
            part.from_offset += missing  # the shard had these offsets before the broker lost them
            part.lost -= missing
            found.append((shard, part))
        return found

    def move(self, shard: int, position: int, base: int) -> None:
        """Note what a shard's log says now."""
        self._chains[shard] = Chain(position, base)
