"""Deltas as aggregators write them, from synthetic events."""

from __future__ import annotations

import json

import numpy as np

from pipeline.events.validation import EventLimits
from pipeline.testing import request_event
from pipeline.windows.delta import encode
from pipeline.windows.partition_folder import PartitionAggregator

__all__ = ["make_deltas"]

START = 1_760_486_400


def make_deltas(pools: int, batches: int, partitions: int, records: int) -> list[tuple[int, bytes]]:
    """Encoded deltas of ``batches`` batches of ``records`` events, partition after partition.

    Each partition's events lie a millisecond apart in event time; lengths and latencies are lognormal.
    """
    rng = np.random.default_rng(7)
    limits = EventLimits(max_age_seconds=1e9)
    folders = [PartitionAggregator("requests", p, "bench", limits, 0) for p in range(partitions)]
    made = []
    for batch in range(batches):
        turn, partition = divmod(batch, partitions)
        first, at = turn * records, START + turn * records / 1_000
        draws = rng.lognormal(6, 1, (4, records))
        pool = rng.integers(0, pools, records).tolist()
        values = [
            json.dumps(
                request_event(
                    f"{batch}-{i}",
                    at + i / 1_000,
                    model=f"model-{pool[i] % 8}",
                    pool=f"pool-{pool[i]:04d}",
                    input_tokens=int(draws[0, i]),
                    output_tokens=int(draws[1, i]) + 1,
                    e2e_seconds=float(draws[2, i]) / 100,
                    ttft_seconds=float(draws[0, i]) / 2_000,
                    tpot_seconds=0.01 + float(draws[1, i]) / 50_000,
                    queue_seconds=float(draws[3, i]) / 5_000,
                )
            ).encode()
            for i in range(records)
        ]
        end = first + records
        delta, _ = folders[partition].fold(values, range(first, end), [-1] * records, first, end, at + 1e6)
        if delta is None or delta.events != records:
            raise RuntimeError("the synthetic events were not all taken")
        made.append((partition, encode(delta)))
    return made
