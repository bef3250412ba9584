"""What all readers share: their task as JSON on the command line, their clock, and the window job of the rivals.

The window job is the least that a rival must do to be comparable: count, sum of latency and of output tokens by (pool,
10-second window of the completion). Tokentide's own reader does all that the product does instead.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.stream.workload import WINDOW_SECONDS

__all__ = ["ColumnWindows", "EventWindows", "Meter", "Task", "peak_rss_bytes", "read_task", "report"]


@dataclass(frozen=True)
class Task:
    """Read ``events`` events of ``topic``; ``name`` is unique to the run (consumer groups, folders)."""

    bootstrap: str
    topic: str
    events: int
    name: str
    options: dict[str, Any] = field(default_factory=dict)


def read_task() -> Task:
    """The task that the parent wrote on the command line."""
    return Task(**json.loads(sys.argv[1]))


class Meter:
    """Wall and CPU seconds (all threads) from the first record in hand to the last one counted."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self.started = False

    def start(self) -> None:
        """The first record is there; later calls change nothing."""
        if not self.started:
            self.started = True
            self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """What has passed since, and the largest memory that the process ever had."""
        return {
            "wall_seconds": time.perf_counter() - self._wall,
            "cpu_seconds": time.process_time() - self._cpu,
            "peak_rss_bytes": peak_rss_bytes(),
        }


def peak_rss_bytes() -> int:
    """The largest memory that this program had (``ru_maxrss`` would include the parent's, from before ``exec``)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def report(meter: dict[str, float], totals: dict[str, Any], **more: Any) -> None:
    """Print the result as the last line."""
    print(json.dumps({**meter, **more, "totals": totals}), flush=True)


class Event(msgspec.Struct, gc=False):
    """The fields that the window job needs."""

    pool: str
    completed_at: float
    e2e_seconds: float
    output_tokens: int


class ColumnWindows:
    """The window job on batches: msgspec into narrow structs, numpy group-by."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(Event).decode
        self._codes: dict[str, int] = {}
        self._groups: dict[tuple[int, int], list[int]] = {}
        self.events = 0

    def add(self, values: Sequence[bytes]) -> None:
        """Count one batch."""
        events = [self._decode(value) for value in values]
        n = len(events)
        if not n:
            return
        codes = self._codes
        pool = np.fromiter((codes.setdefault(e.pool, len(codes)) for e in events), np.int64, n)
        window = np.fromiter((e.completed_at for e in events), np.float64, n) // WINDOW_SECONDS
        latency = np.rint(np.fromiter((e.e2e_seconds for e in events), np.float64, n) * 1000.0)
        output = np.fromiter((e.output_tokens for e in events), np.int64, n)
        cell, row = np.unique(window.astype(np.int64) * (1 << 20) + pool, return_inverse=True)
        counts = np.bincount(row)
        latencies = np.bincount(row, latency)
        outputs = np.bincount(row, output)
        for key, *sums in zip(cell.tolist(), counts.tolist(), latencies.tolist(), outputs.tolist(), strict=True):
            group = self._groups.setdefault(divmod(key, 1 << 20), [0, 0, 0])
            for i, value in enumerate(sums):
                group[i] += int(value)
        self.events += n

    def totals(self) -> dict[str, int]:
        """For the comparison with the truth."""
        return _totals(self._groups)


class EventWindows:
    """The window job event by event."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(Event).decode
        self._groups: dict[tuple[Any, int], list[int]] = {}
        self.events = 0

    def add(self, value: bytes) -> None:
        """Count one event."""
        event = self._decode(value)
        group = self._groups.setdefault((event.pool, int(event.completed_at // WINDOW_SECONDS)), [0, 0, 0])
        group[0] += 1
        group[1] += round(event.e2e_seconds * 1000)
        group[2] += event.output_tokens
        self.events += 1

    def totals(self) -> dict[str, int]:
        """For the comparison with the truth."""
        return _totals(self._groups)


def _totals(groups: dict[Any, list[int]]) -> dict[str, int]:
    return {
        "events": sum(g[0] for g in groups.values()),
        "latency_ms": sum(g[1] for g in groups.values()),
        "output_tokens": sum(g[2] for g in groups.values()),
        "groups": len(groups),
    }
