"""What Python itself is told in a process that folds a stream."""

from __future__ import annotations

import gc
import sys

from pipeline.stream.process.memory import bound_heap

__all__ = ["tune_process"]

#: Containers made between two collections. A fetched record brings a few of them (Python's own 700 would mean a
#: collection every few hundred records, each over all records in hand); they are freed by their reference counts.
YOUNG_CONTAINERS = 50_000
#: How long one thread may run while another waits. With Python's own 5 ms the fetching thread waits that long at each
#: piece that it reads from the socket, and the folding thread runs dry.
SWITCH_SECONDS = 0.0005


def tune_process() -> None:
    """Call once, when a process has imported what it needs: that is left out of every later garbage collection."""
    bound_heap()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_CONTAINERS, 10, 10)
    sys.setswitchinterval(SWITCH_SECONDS)
