"""Where the time of slow reads goes: which routes, which seconds, and which threads of the controller ran or waited.

A thread that is ready to run and has no core waits; Linux counts that (``/proc/self/task/*/schedstat``: nanoseconds
that it ran, and that it waited).
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Read", "ThreadMeter", "tables"]

_EVERY_SECONDS = 0.25
#: Threads that Python did not start: DuckDB's.
_OTHERS = "(not Python's)"


class Read(NamedTuple):
    """One read: when it was due (epoch seconds), what it took (seconds) and brought (bytes)."""

    due: float
    seconds: float
    path: str
    size: int


class ThreadMeter:
    """Notes what the threads of this process have run and waited, a few times a second, until the process ends."""

    def __init__(self) -> None:
        #: (epoch seconds, {thread: (seconds that it ran, and waited, so far)}).
        self.samples: list[tuple[float, dict[str, tuple[float, float]]]] = []

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    def _run(self) -> None:
        while True:
            names = {thread.native_id: thread.name for thread in threading.enumerate()}
            found: dict[str, tuple[float, float]] = {}
            for task in os.listdir("/proc/self/task"):
                try:
                    ran, waited, _ = Path(f"/proc/self/task/{task}/schedstat").read_text(encoding="ascii").split()
                except OSError:  # it has ended
                    continue
                name = names.get(int(task), _OTHERS)
                before = found.get(name, (0.0, 0.0))
                found[name] = before[0] + int(ran) / 1e9, before[1] + int(waited) / 1e9
            self.samples.append((time.time(), found))
            time.sleep(_EVERY_SECONDS)


def _route(path: str) -> str:
    """The class of a path: without its query, and of what is of one pool only how it begins."""
    parts = path.partition("?")[0].split("/")
    return "/".join(parts[:3]) + ("/…" if len(parts) > 3 else "")


def _quantiles(reads: Iterable[Read]) -> str:
    p50, p90, p99 = np.quantile([1000 * read.seconds for read in reads], (0.5, 0.9, 0.99))
    return f"{p50:.0f} | {p90:.0f} | {p99:.0f}"


def _used(samples: Sequence[tuple[float, dict[str, Any]]], begin: float, end: float) -> dict[str, tuple[float, float]]:
    """What each thread ran and waited from ``begin`` to ``end`` (epoch seconds), as far as samples tell."""
    within = [told for at, told in samples if begin <= at <= end]
    if len(within) < 2:
        return {}
    first, last = within[0], within[-1]
    return {
        name: (last[name][0] - ran, last[name][1] - waited) for name, (ran, waited) in first.items() if name in last
    }


def tables(reads: Sequence[Read], samples: Sequence[tuple[float, dict[str, Any]]]) -> str:
    """Return tables by route, by second and by thread."""
    routes: dict[str, list[Read]] = defaultdict(list)
    seconds: dict[int, list[Read]] = defaultdict(list)
    for read in reads:
        routes[_route(read.path)].append(read)
        seconds[int(read.due)].append(read)
    lines = ["| route | reads | p50, ms | p90 | p99 | bytes |", "|---|---|---|---|---|---|"]
    for route, of_route in sorted(routes.items()):
        size = np.mean([read.size for read in of_route])
        lines.append(f"| {route} | {len(of_route)} | {_quantiles(of_route)} | {size:,.0f} |")
    lines += ["", "| second | reads | p50, ms | p90 | p99 | threads: ran + waited, ms |", "|---|---|---|---|---|---|"]
    for second, of_second in sorted(seconds.items()):
        used = sorted(_used(samples, second - 0.1, second + 1.1).items(), key=lambda told: -told[1][0])
        busy = ", ".join(f"{name} {1000 * ran:.0f} + {1000 * waited:.0f}" for name, (ran, waited) in used[:5])
        lines.append(f"| :{second % 60:02d} | {len(of_second)} | {_quantiles(of_second)} | {busy} |")
    lines += ["", "| thread | ran, s | waited for a core, s |", "|---|---|---|"]
    whole = _used(samples, min(seconds), max(seconds) + 1.0)
    for name, (ran, waited) in sorted(whole.items(), key=lambda told: -told[1][0]):
        lines.append(f"| {name} | {ran:.2f} | {waited:.2f} |")
    return "\n".join(lines)
