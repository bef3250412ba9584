"""The events that every reader is fed: deterministic, so that each reader's totals can be checked against the truth.

A fleet of ``keys`` pools finishes ``EVENTS_PER_SECOND`` requests a second of event time; lengths are lognormal, latency
follows from them, a pool's requests share a partition. An event of 250 bytes holds what sizing needs; one of 1 kB also
what real emitters add (identifiers, placement, labels that Tokentide does not know).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EVENTS_PER_SECOND", "PARTITIONS", "WINDOW_SECONDS", "Totals", "Workload"]

PARTITIONS = 12
WINDOW_SECONDS = 10
EVENTS_PER_SECOND = 20_000
CHUNK = 20_000

_MODELS = ("llama-3.1-8b-instruct", "llama-3.3-70b-instruct", "qwen3-235b-a22b", "deepseek-v3.1")
_EXTRA = (
    '"schema":"tokentide.request.completed.v1","request_id":"chatcmpl-%(i)032x","trace_id":"%(i)032x",'
    '"operation":"chat","variant":"stable","finish_reason":"stop","stream":true,"http_status":200,'
    '"tenant":"tenant-%(t)03d","workload":"assistant","priority":"standard","region":"eu-central-1",'
    '"cluster":"inference-prod-03","namespace":"serving","server_id":"vllm-%(t)03d-x2x9k","engine":"vllm",'
    '"engine_version":"0.11.0","accelerator":"NVIDIA H100 80GB HBM3","accelerators_per_replica":1,'
    '"max_output_tokens":4096,"n":1,"prefill_seconds":0.21,"decode_seconds":4.2,'
    '"labels":{"team":"search-and-answers","service":"answer-composer","deployment":"blue",'
    '"gateway":"edge-%(t)03d","route":"/v1/chat/completions","sdk":"python-openai/2.8.0"},'
)


@dataclass(frozen=True)
class Totals:
    """What a complete reader must have counted; whole numbers only, so that they compare exactly."""

    events: int
    output_tokens: int
    latency_ms: int
    groups: int  # (pool, window of the completion) pairs
    arrival_groups: int  # (pool, window of the arrival) pairs

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


class Workload:
    """``events`` events over ``keys`` pools; ``start`` is the event time of the first completion, epoch seconds."""

    def __init__(self, events: int, keys: int, bytes_each: int, start: float, seed: int = 7) -> None:
        if bytes_each not in (250, 1000):
            raise ValueError("events have 250 or 1000 bytes")
        self.events, self.keys, self.bytes_each, self.start = events, keys, bytes_each, start
        self._seed = seed

    def _columns(self, chunk: int, n: int) -> dict[str, NDArray[np.int64]]:
        rng = np.random.default_rng((self._seed, chunk))
        index = np.arange(chunk * CHUNK, chunk * CHUNK + n)
        output = np.minimum(rng.lognormal(5.0, 0.9, n).astype(np.int64) + 1, 8_000)
        ttft_ms = rng.lognormal(5.3, 0.6, n).astype(np.int64) + 20
        jitter_ms = rng.integers(0, 200, n)
        return {
            "index": index,
            "key": rng.integers(0, self.keys, n),
            "input": np.minimum(rng.lognormal(6.5, 1.1, n).astype(np.int64) + 1, 120_000),
            "output": output,
            "ttft_ms": ttft_ms,
            "queue_ms": rng.integers(0, 40, n),
            "e2e_ms": ttft_ms + output * rng.integers(12, 30, n),
            "completed_ms": int(self.start * 1000) + index * 1000 // EVENTS_PER_SECOND + jitter_ms,
        }

    def _chunks(self) -> Iterator[dict[str, NDArray[np.int64]]]:
        for chunk in range(-(-self.events // CHUNK)):
            yield self._columns(chunk, min(CHUNK, self.events - chunk * CHUNK))

    def partition_of(self, key: int) -> int:
        """Partition of a pool's events."""
        return key % PARTITIONS

    def records(self) -> Iterator[tuple[int, bytes, bytes, int]]:
        """(partition, key, value, timestamp in epoch ms) of every event, in order of emission."""
        for columns in self._chunks():
            lists = {name: column.tolist() for name, column in columns.items()}
            for i, key, n_in, n_out, ttft, queue, e2e, done in zip(
                *(lists[name] for name in ("index", "key", "input", "output", "ttft_ms", "queue_ms", "e2e_ms")),
                lists["completed_ms"],
                strict=True,
            ):
                model = _MODELS[key % len(_MODELS)]
                extra = _EXTRA % {"i": i, "t": i % 300} if self.bytes_each > 250 else ""
                value = (
                    f'{{{extra}"event_id":"req-{i:016x}","model":"{model}","pool":"pool-{key:05d}",'
                    f'"completed_at":{done / 1000:.3f},"e2e_seconds":{e2e / 1000:.3f},'
                    f'"ttft_seconds":{ttft / 1000:.3f},"queue_seconds":{queue / 1000:.3f},"input_tokens":{n_in},'
                    f'"cached_input_tokens":{n_in // 3},"output_tokens":{n_out},"status":"ok"}}'
                )
                yield self.partition_of(key), f"{model}|pool-{key:05d}".encode(), value.encode(), done

    def totals(self) -> Totals:
        """The truth, from the columns and not from the encoded events."""
        output = latency = 0
        groups: set[int] = set()
        arrival_groups: set[int] = set()
        for columns in self._chunks():
            output += int(columns["output"].sum())
            latency += int(columns["e2e_ms"].sum())
            window = columns["completed_ms"] // (WINDOW_SECONDS * 1000)
            groups.update(np.unique(window * self.keys + columns["key"]).tolist())
            arrived = columns["completed_ms"] / 1000.0 - columns["e2e_ms"] / 1000.0
            window = np.floor(arrived / WINDOW_SECONDS).astype(np.int64)
            arrival_groups.update(np.unique(window * self.keys + columns["key"]).tolist())
        return Totals(self.events, output, latency, len(groups), len(arrival_groups))
