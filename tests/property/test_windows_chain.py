"""Any interleaving of owners and zombies: the tail alone tells the position; no offset counts twice or is skipped."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.validation import EventLimits
from pipeline.windows.delta import applies, covered_position, first_needed
from pipeline.windows.partition_folder import PartitionAggregator


def delta_of(start, stop, base):
    delta = PartitionAggregator("t", 0, "p", EventLimits(), 0).heartbeat(start)
    delta.through_offset, delta.base_delta_offset, delta.idle = stop - 1, base, False
    return delta


class Writer:
    """An aggregator that believes it owns the partition; it may not have seen what others wrote since."""

    def __init__(self, log, virgin_start):
        self.virgin_start = virgin_start
        self.realign(log)

    def realign(self, log):
        tail = list(enumerate(log))
        needed = first_needed(tail[-1:]) if tail else 0
        position = covered_position(tail[needed:])
        self.position = self.virgin_start if position is None else position
        self.base = -1 if position is None else len(log) - 1

    def write(self, log, length):
        log.append(delta_of(self.position, self.position + length, self.base))
        if len(log) - 1 == self.base + 1:
            self.position, self.base = self.position + length, len(log) - 1
        # Otherwise somebody came between: a live writer realigns (its own step), a zombie does not know yet.


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["write", "write", "write", "realign", "restart", "junk"]), st.integers(0, 5)
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.booleans())
def test_zombies_change_nothing(steps, retention):
    log = []
    writers = {}
    for who, action, length in steps:
        if who not in writers or action == "restart":
            # Retention may have moved the start of the source between two first looks at it.
            writers[who] = Writer(log, 3 + who if retention else 3)
        elif action == "realign":
            writers[who].realign(log)
        elif action == "junk":
            log.append(None)
        if action == "write":
            writers[who].write(log, length)
    position, counted = None, []
    for delta in log:
        if delta is None:
            continue
        verdict = applies(position, delta)
        assert verdict != "gap" or retention
        if verdict == "apply":
            counted.extend(range(delta.from_offset, delta.through_offset + 1))
            position = delta.through_offset + 1
    start = counted[0] if counted else 3
    assert counted == list(range(start, start + len(counted)))
    tail = list(enumerate(log))
    assert covered_position(tail) == position
    assert covered_position(tail[first_needed(tail) :]) == position
