"""Sums over spans, against sums of everything that was ever added."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.span_sums import SpanSums

GRAINS = ((60, 600), (3_600, 7_200))
ADDED = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 5), st.integers(0, 5)), max_size=40)


@given(ADDED, st.booleans())
def test_spans_hold_the_periods_that_begin_within_them(added: list[tuple[int, int, int]], packed: bool) -> None:
    sums, now, all_of_it = SpanSums(2, GRAINS, packed=packed), 1_700_000_000, []
    for passed, one, other in added:
        now += passed
        sums.add(now, (one, other))
        sums.forget(now)
        all_of_it.append((now, one, other))
        sums = pickle.loads(pickle.dumps(sums))
        for seconds, grain in ((120, 60), (600, 60), (3_600, 3_600), (7_200, 3_600)):
            within = [row for row in all_of_it if row[0] // grain * grain >= now - seconds]
            assert sums.over(now, seconds) == [
                float(sum(row[1] for row in within)),
                float(sum(row[2] for row in within)),
            ]
    assert len(sums) <= 600 // 60 + 1 + 7_200 // 3_600 + 1
