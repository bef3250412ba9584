import gc
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stream.process.memory import trim_heap
from tests.waiting import scaled

PROGRAM = """
from pathlib import Path
from pipeline.stream.process.memory import trim_heap

def resident():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1])

held = [bytes(3_000 + i % 64) for i in range(20_000)]
held = held[::50]  # what stays lies between the holes
full = resident()
assert trim_heap()
assert resident() < full - 30_000, (full, resident())
"""


def test_holes_between_what_stays_are_given_back() -> None:
    if not trim_heap():
        pytest.skip("this C library has no malloc_trim")
    if not Path("/proc/self/status").exists():
        pytest.skip("/proc is not there")
    # In a process of its own: the heap of this one holds anything.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=scaled(60))


@pytest.mark.slow
def test_giving_back_leaves_nothing_behind() -> None:
    trim_heap()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(100):
        trim_heap()
    assert len(gc.get_objects()) < before + 100, "one look brings more than it takes away"
